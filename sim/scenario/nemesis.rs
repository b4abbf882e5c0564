//! Draws faults: from a scenario's `[[fault]]` blocks to times, targets and ends.
//!
//! Each block has its own stream of dice, named by its place in the file. Knows nothing of how a fault is done.

use super::plan::{self, Strike, Survival, Target};
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
            let loses = matches!(fault.what, FaultKind::PowerLoss | FaultKind::CrashStates);
            let survival = loses.then_some(survival);
            let drawn = plan::Fault {
                id: 0,
                at_us,
                until_us,
                what: fault.what,
                whom,
                survival,
                files: fault.files,
                messages: fault.messages,
                amount: amount(fault, &mut dice),
                links: Vec::new(),
                strike: fault.awaits_writes.then(|| strike(&mut dice)),
            };
            faults.extend(steps(drawn, scenario.members, &mut dice));
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

fn target(fault: &Fault, members: u32, dice: &mut Dice) -> Target {
    // Drawn whether used or not, so that another `whom` does not move the times that follow.
    let mut order = dice.shuffled(&member_names(members));
    let more_than_half = members as usize / 2 + 1;
    let sorted = |mut names: Vec<String>| {
        names.sort();
        Target::Members(names)
    };
    match &fault.whom {
        Whom::Leader => Target::Leader { otherwise: order.remove(0) },
        Whom::Follower => Target::Follower { first_of: order },
        Whom::Random => Target::Members(vec![order.remove(0)]),
        Whom::All => sorted(order),
        Whom::Majority => sorted(order.split_off(order.len() - more_than_half)),
        Whom::Minority => sorted(order.split_off(more_than_half.min(order.len() - 1))),
        Whom::Named(names) => sorted(names.clone()),
    }
}

/// How much, for this once. Kinds without an amount draw nothing.
fn amount(fault: &Fault, dice: &mut Dice) -> Option<i64> {
    let most = i64::try_from(fault.amount).unwrap_or(i64::MAX);
    match fault.what {
        FaultKind::ClockStep | FaultKind::ClockDrift => {
            let amount = 1 + i64::try_from(dice.below(fault.amount)).unwrap_or(0);
            Some(if dice.percent(50) { amount } else { -amount })
        }
        FaultKind::OldDisk => Some(1 + i64::try_from(dice.below(fault.amount)).unwrap_or(0)),
        // Whether the pages of a failed or false sync go at once.
        FaultKind::SyncFails | FaultKind::LostWrite | FaultKind::MisdirectedWrite => {
            Some(i64::from(dice.percent(50)))
        }
        kind => kind.row().says.amount().map(|_| most),
    }
}

/// Few operations: the next sync is what matters most. Half of the time the process is stopped in the middle of
/// whatever it does, else while it waits for the disk or speaks to others.
fn strike(dice: &mut Dice) -> Strike {
    let most = *dice.pick(&[1, 3, 12, 60]);
    let operations = dice.within(1, most);
    let then_us = if dice.percent(50) { 0 } else { dice.within(1, 3_000) };
    Strike { operations, then_us }
}

/// What a fault consists of: most are one step; some cut other links, some come and go.
fn steps(fault: plan::Fault, members: u32, dice: &mut Dice) -> Vec<plan::Fault> {
    let order = |dice: &mut Dice| dice.shuffled(&member_names(members));
    match fault.what {
        FaultKind::Groups => {
            let most = fault.amount.and_then(|most| u64::try_from(most).ok()).unwrap_or(2);
            let count = dice.within(2, most.min(u64::from(members)).max(2));
            let groups: Vec<(String, u64)> =
                order(dice).into_iter().zip((0..count).cycle()).collect();
            vec![cut(fault, &groups, |one, other| one != other)]
        }
        FaultKind::Ring => {
            let places: Vec<(String, u64)> = order(dice).into_iter().zip(0..).collect();
            let last = u64::from(members) - 1;
            let is_ring = members > 3;
            let near = move |one: u64, other: u64| {
                one.abs_diff(other) == 1 || (is_ring && one.abs_diff(other) == last)
            };
            vec![cut(fault, &places, move |one, other| !near(one, other))]
        }
        FaultKind::Bridge => {
            // The first is the bridge: in neither half.
            let halves =
                order(dice).into_iter().zip(std::iter::once(0).chain([1, 2].into_iter().cycle()));
            let halves: Vec<(String, u64)> = halves.collect();
            vec![cut(fault, &halves, |one, other| one != other && one != 0 && other != 0)]
        }
        // Around the length of an election.
        FaultKind::Flap => by_turns(&fault, dice, (20_000, 800_000), 800_000),
        FaultKind::Stutter => {
            let on_max_us = fault.amount.map_or(2_000, |ms| ms.unsigned_abs() * 1_000);
            by_turns(&fault, dice, (1_000, on_max_us), on_max_us / 2)
        }
        FaultKind::Swizzle => {
            let mut order = order(dice);
            order.truncate(dice.within(1, u64::from(members)) as usize);
            let third_us = (fault.until_us - fault.at_us) / 3;
            let mut off = |name: String| plan::Fault {
                at_us: fault.at_us + dice.within(0, third_us),
                until_us: fault.until_us - dice.within(0, third_us),
                whom: Target::Members(vec![name]),
                ..fault.clone()
            };
            order.into_iter().map(&mut off).collect()
        }
        _ => vec![fault],
    }
}

/// `fault`, cutting the links between members whose places are `apart`.
fn cut(
    fault: plan::Fault,
    places: &[(String, u64)],
    apart: impl Fn(u64, u64) -> bool,
) -> plan::Fault {
    let mut links = Vec::new();
    for (from, one) in places {
        for (to, other) in places {
            if from != to && apart(*one, *other) {
                links.push((from.clone(), to.clone()));
            }
        }
    }
    links.sort();
    plan::Fault { links, ..fault }
}

/// `fault`, on and off by turns of drawn lengths.
fn by_turns(
    fault: &plan::Fault,
    dice: &mut Dice,
    (min_us, on_max_us): (u64, u64),
    off_max_us: u64,
) -> Vec<plan::Fault> {
    let mut steps = Vec::new();
    let mut at_us = fault.at_us;
    while at_us < fault.until_us {
        let until_us = (at_us + dice.within(min_us, on_max_us)).min(fault.until_us);
        steps.push(plan::Fault { at_us, until_us, ..fault.clone() });
        at_us = until_us + dice.within(min_us, off_max_us.max(min_us));
    }
    steps
}
