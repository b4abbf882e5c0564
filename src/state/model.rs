//! Random requests against a naive model, in two runs that must agree with it and with each other.
//!
//! The model keeps a full copy of all keys for every revision. It is written from etcd's
//! documentation and shares nothing with the state machine but the messages. One run applies every
//! request on its own and removes compacted rows at once; the other cuts the log at random,
//! reopens, transfers, and removes rows in small steps.

mod naive;
mod requests;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::testing::{Folder, entry, open};
use super::{Entry, State};
use crate::error::Error;
use crate::proto::etcdserverpb::{InternalRaftRequest, RangeRequest};
use naive::Model;

/// What happens to the second run after a request.
#[derive(Clone, Copy, Debug)]
enum Between {
    /// The next request is in the same slice.
    Nothing,
    /// The slice ends.
    Slice,
    /// The slice ends, and one small step of compaction is made.
    Step,
    /// The slice ends, and the state is opened anew.
    Reopen,
    /// The slice ends, and the state moves to another folder.
    Transfer,
}

fn between() -> impl Strategy<Value = Between> {
    prop_oneof![
        6 => Just(Between::Nothing),
        4 => Just(Between::Slice),
        3 => Just(Between::Step),
        1 => Just(Between::Reopen),
        1 => Just(Between::Transfer),
    ]
}

proptest! {
    #![proptest_config(Config {
        cases: 60,
        // The same cases in every run; other ones by changing the number.
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..Config::default()
    })]

    /// Responses are the model's, however the log is cut and whatever happens in between; and both
    /// runs end with the same hashes.
    #[test]
    fn agrees_with_the_model(
        log in prop::collection::vec((requests::any_request(), between()), 1..60),
        reads in prop::collection::vec(requests::range(), 1..30),
    ) {
        let mut model = Model::default();
        let expected: Vec<_> = log.iter().map(|(request, _)| model.apply(request)).collect();
        let mut plain = Run::new(1000);
        let mut rough = Run::new(2);
        for ((request, between), expected) in log.iter().zip(&expected) {
            plain.push(request);
            plain.end_slice();
            while plain.state().compact_step().expect("no failure") {}
            prop_assert_eq!(plain.answers.last(), Some(expected), "{:?}", request);
            rough.push(request);
            rough.then(*between);
        }
        rough.end_slice();
        prop_assert_eq!(&rough.answers, &expected);
        for read in reads.iter().chain(&history(&model)) {
            let expected = model.range(read);
            for run in [&mut plain, &mut rough] {
                let answer = match run.state().range(read) {
                    Ok(response) => Ok(response),
                    Err(Error::Refused(refusal)) => Err(refusal),
                    Err(error) => panic!("{error}"),
                };
                prop_assert_eq!(&answer, &expected, "{:?}", read);
            }
        }
        for revision in plain.state().compact_revision().max(0)..=plain.state().current_revision() {
            prop_assert_eq!(plain.state().hash_kv(revision), rough.state().hash_kv(revision));
        }
        let hash = plain.state().hash_all();
        prop_assert_eq!(&hash, &rough.state().hash_all());
        rough.then(Between::Transfer);
        prop_assert_eq!(&hash, &rough.state().hash_all());
    }
}

/// Ranges over everything at every revision that there ever was.
fn history(model: &Model) -> Vec<RangeRequest> {
    let all = |revision| RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        revision,
        ..RangeRequest::default()
    };
    (0..=model.current() + 1).map(all).collect()
}

/// A state that is driven through a log.
struct Run {
    folder: Folder,
    state: Option<State>,
    batch: usize,
    slice: Vec<Entry>,
    pushed: u64,
    answers: Vec<super::Verdict<super::Response>>,
}

impl Run {
    fn new(batch: usize) -> Self {
        let folder = Folder::new();
        let state = Some(open(&folder, batch));
        Self { folder, state, batch, slice: Vec::new(), pushed: 0, answers: Vec::new() }
    }

    fn state(&mut self) -> &mut State {
        self.state.as_mut().expect("a state is always put back")
    }

    fn push(&mut self, request: &InternalRaftRequest) {
        self.pushed += 1;
        self.slice.push(entry(self.pushed, request.clone()));
    }

    fn end_slice(&mut self) {
        let slice = std::mem::take(&mut self.slice);
        let applied = self.state().apply(&slice).expect("no failure");
        self.answers.extend(applied.into_iter().map(|applied| applied.result));
    }

    fn then(&mut self, between: Between) {
        if !matches!(between, Between::Nothing) {
            self.end_slice();
        }
        match between {
            Between::Nothing | Between::Slice => {}
            Between::Step => {
                self.state().compact_step().expect("no failure");
            }
            Between::Reopen => {
                self.state = None;
                self.state = Some(open(&self.folder, self.batch));
            }
            Between::Transfer => {
                let mut export = self.state().export().expect("no failure");
                let folder = Folder::new();
                let (index, term) = export.applied();
                let mut import =
                    open(&folder, self.batch).import_begin(index, term).expect("no failure");
                while let Some(chunk) = export.next_chunk(100).expect("no failure") {
                    import.chunk(&chunk).expect("no failure");
                }
                drop(export);
                self.state = Some(import.finish().expect("a whole stream"));
                self.folder = folder;
            }
        }
    }
}
