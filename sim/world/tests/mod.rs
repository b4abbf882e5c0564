//! What the simulated world promises, one test per fault and per machine part.
