//! From a scenario and a seed to a plan.
//!
//! A function of its arguments: the same scenario and seed give the same plan, to the last byte.

use super::plan::{Operation, Plan};
use super::{Scenario, change, member_names, nemesis, swarm};
use crate::dice::Dice;
use crate::workload::{self, Shape};

/// Makes every choice that `scenario` leaves open.
#[must_use]
pub fn plan(scenario: &Scenario, seed: u64) -> Plan {
    let scenario = &swarm::settle(scenario, seed);
    Plan {
        scenario: scenario.name.clone(),
        seed,
        members: member_names(scenario.members + scenario.spares),
        spares: scenario.spares,
        observer: scenario.observer,
        beyond_tolerance: scenario.is_beyond_tolerance,
        clients: scenario.clients,
        delay_us: (scenario.delay_us.min, scenario.delay_us.max),
        sync_us: (scenario.sync_us.min, scenario.sync_us.max),
        server: scenario.server.clone(),
        limits: scenario.limits.clone(),
        safety_us: scenario.duration_us,
        liveness_us: scenario.liveness_us,
        faults: nemesis::draw(scenario, seed),
        changes: change::draw(&scenario.changes, scenario.duration_us, seed),
        operations: operations(scenario, seed),
    }
}

fn operations(scenario: &Scenario, seed: u64) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (nth, workload) in scenario.workloads.iter().enumerate() {
        for client in 0..scenario.clients {
            // Further workloads have streams of their own, so that adding one leaves the first as it was.
            let label = if nth == 0 {
                format!("workload/{client}")
            } else {
                format!("workload/{client}/{nth}")
            };
            let mut dice = Dice::new(seed, &label);
            let shape = Shape {
                client,
                clients: scenario.clients,
                members: scenario.members + scenario.spares,
                until_us: scenario.duration_us,
            };
            operations.extend(workload::draw(workload, &mut dice, &shape));
        }
    }
    operations.sort_by_key(|operation| (operation.at_us, operation.client));
    for (id, operation) in (0..).zip(&mut operations) {
        operation.id = id;
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::plan;
    use crate::scenario::plan::Plan;
    use crate::scenario::{Scenario, file, library};

    fn small() -> Scenario {
        let text = "\
            about = \"A small plan to look at.\"\n\
            duration = \"6s\"\n\
            [cluster]\nclients = 2\n\
            [server]\nsnapshot-count = 50\n\
            [[workload]]\nkind = \"kv\"\nrate = 3\nkeys = 3\n\
            [[fault]]\nwhat = \"partition\"\nwhom = \"leader\"\nat = \"1s..2s\"\nlasts = \"1s\"\n\
            [[fault]]\nwhat = \"crash\"\nwhom = \"random\"\nevery = \"2s..3s\"\nlasts = \"100ms..1s\"\n";
        file::parse("small", "small.toml", text).unwrap()
    }

    /// One small plan, to be looked at: a change here means that every seed now means another run.
    #[test]
    fn a_small_plan() {
        insta::assert_snapshot!("small-plan", plan(&small(), 7).to_json());
    }

    /// The same scenario and seed give the same plan to the last byte; another seed gives another; JSON keeps all.
    #[test]
    fn plans_depend_on_scenario_and_seed_alone() {
        for name in library::names() {
            let scenario = library::find(name).unwrap();
            let first = plan(&scenario, 1);
            assert_eq!(first.to_json(), plan(&scenario, 1).to_json(), "{name}");
            // Not with `assert_eq`: a plan is megabytes of text.
            assert!(first.operations != plan(&scenario, 2).operations, "{name}");
            assert!(Plan::from_json(&first.to_json()).unwrap() == first, "{name}");
        }
    }

    /// Taking one fault away leaves the other faults and every operation as they were.
    #[test]
    fn streams_are_independent() {
        let mut scenario = small();
        let with = plan(&scenario, 7);
        scenario.faults.pop();
        let without = plan(&scenario, 7);
        assert_eq!(without.operations, with.operations);
        let kept: Vec<_> =
            with.faults.iter().filter(|fault| fault.what == scenario.faults[0].what).collect();
        assert_eq!(without.faults.len(), kept.len());
        assert!(
            without.faults.iter().zip(kept).all(|(a, b)| (a.at_us, &a.whom) == (b.at_us, &b.whom))
        );
    }

    /// No two writes of a run carry the same value.
    #[test]
    fn values_are_unique() {
        let scenario = library::find("smoke").unwrap();
        let text = plan(&scenario, 3).to_json();
        let mut values: Vec<&str> = text
            .match_indices("\"value\":\"v")
            .map(|(at, _)| text[at + 9..].split('"').next().unwrap())
            .collect();
        let all = values.len();
        values.sort_unstable();
        values.dedup();
        assert!(all > 100);
        // Values that conditions guess at stand in plans, too; writes are far more.
        assert!(values.len() * 10 > all * 9, "{} of {all}", values.len());
    }
}
