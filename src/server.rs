//! Puts one member together from its parts and runs it until it is told to stop.
