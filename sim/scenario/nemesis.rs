//! Draws faults: from a scenario's `[[fault]]` blocks to times, targets and ends.
//!
//! Each block has its own stream of dice, named by its place in the file. Knows nothing of how a fault is done.

use super::plan::{self, Survival};
use super::{Fault, FaultKind, Scenario, Span, When, Whom, member_names};
use crate::dice::Dice;

/// Every fault of the run, by time, numbered.
#[must_use]
pub fn draw(scenario: &Scenario, seed: u64) -> Vec<plan::Fault> {
    let mut faults = Vec::new();
    for (nth, fault) in scenario.faults.iter().enumerate() {
        let mut dice = Dice::new(seed, &format!("nemesis/{nth}"));
        for at_us in starts(fault, scenario.duration_us, &mut dice) {
            let lasts_us = throw(fault.lasts_us, &mut dice);
            let until_us = (at_us + lasts_us).min(scenario.duration_us);
            let whom = target(fault, scenario.members, &mut dice);
            // The worst, and the messiest, in equal parts.
            let survival = if dice.percent(50) { Survival::Nothing } else { Survival::Part };
            let survival = (fault.what == FaultKind::PowerLoss).then_some(survival);
            faults.push(plan::Fault { id: 0, at_us, until_us, what: fault.what, whom, survival });
        }
    }
    faults.sort_by_key(|fault| fault.at_us);
    for (id, fault) in (0..).zip(&mut faults) {
        fault.id = id;
    }
    faults
}

fn throw(span: Span, dice: &mut Dice) -> u64 {
    dice.within(span.min, span.max)
}

fn starts(fault: &Fault, duration_us: u64, dice: &mut Dice) -> Vec<u64> {
    match fault.when {
        When::At(span) => vec![throw(span, dice)],
        When::Every { gap_us, from_us, until_us } => {
            let end_us = until_us.min(duration_us);
            // The first start is drawn from the whole gap, so that seeds do not begin in step.
            let mut at_us = from_us + dice.within(0, gap_us.max);
            let mut starts = Vec::new();
            while at_us < end_us {
                starts.push(at_us);
                at_us += throw(gap_us, dice).max(1_000);
            }
            starts
        }
    }
}

fn target(fault: &Fault, members: u32, dice: &mut Dice) -> plan::Target {
    // Drawn whether used or not, so that another `whom` does not move the times that follow.
    let mut order = dice.shuffled(&member_names(members));
    let more_than_half = members as usize / 2 + 1;
    let sorted = |mut names: Vec<String>| {
        names.sort();
        plan::Target::Members(names)
    };
    match &fault.whom {
        Whom::Leader => plan::Target::Leader { otherwise: order.remove(0) },
        Whom::Follower => plan::Target::Follower { first_of: order },
        Whom::Random => plan::Target::Members(vec![order.remove(0)]),
        Whom::All => sorted(order),
        Whom::Majority => sorted(order.split_off(order.len() - more_than_half)),
        Whom::Minority => sorted(order.split_off(more_than_half.min(order.len() - 1))),
        Whom::Named(names) => sorted(names.clone()),
    }
}
