//! Situations: places that a sweep should come to, by name, and what is said of those it never came to.
//!
//! Everything that a run counts may be required by a scenario; what stands here is what a *sweep* should see
//! sometimes. A fault that was done but met nothing proves nothing: most of these say what the code met.
//!
//! Not here: how they are counted (`run/logs`, `run/agenda`, `world`).

use crate::outcome::Summary;
use crate::scenario::FaultKind;

/// Each with a sentence.
#[rustfmt::skip]
pub const SITUATIONS: &[(&str, &str)] = &[
    ("elections_won", "a member became leader"),
    ("leaders_lost", "a member lost its leader"),
    ("leader_changes", "another member led than before"),
    ("leader_changed_with_writes_in_flight", "and a client waited for the answer to a write"),
    ("leader_paused", "whoever led stood still"),
    ("leadership_handed_over", "a leader handed over when it was asked to"),
    ("recoveries", "a member started from what its disk held"),
    ("log_tails_repaired", "a torn write at the end of a log was cut off"),
    ("unknown_snapshots_removed", "a snapshot that came before its mark was removed"),
    ("snapshots_set_aside", "a damaged snapshot was set aside"),
    ("snapshots_taken", "a snapshot was marked and the log cut"),
    ("snapshots_sent", "a leader began to send a snapshot"),
    ("snapshots_installed", "a member took a snapshot in place of its state"),
    ("snapshots_not_needed", "a snapshot arrived that nobody needed any more"),
    ("snapshot_sends_failed", "a snapshot did not arrive"),
    ("snapshots_refused", "a member could not take a snapshot in"),
    ("auth_enabled", "authentication was switched on"),
    ("denied", "somebody was told that it may not"),
    ("members_added", "a member was added with a vote"),
    ("learners_added", "a member was added without a vote"),
    ("members_promoted", "a learner was given a vote"),
    ("members_removed", "a member was removed"),
    ("disks_lost", "a member lost its disk with everything on it"),
    ("removed_members_stopped", "a member learnt that it had been removed, and stopped"),
    ("removed_members_kept_out", "a member that had been removed was started again, and refused"),
    ("joins_refused", "a new member found nobody who knew it yet"),
    ("struck_with_writes_in_flight", "a fault came at an exact disk operation"),
    ("ended_by_a_disk_fault", "a member ended by itself because its disk failed it"),
    ("stopped_beyond_tolerance", "a cluster had stopped in the end, with more damaged disks than it can do without"),
    ("power_loss_took_writes", "a power cut took unsynced writes"),
    ("power_loss_tore_a_write", "a power cut left a part of a write"),
    ("power_loss_reordered_writes", "a power cut kept something later than something that it took"),
    ("power_loss_took_dropped_pages", "a power cut took pages that a failed sync had dropped"),
    ("power_loss_took_directory_entries", "a power cut took names"),
    ("crash_states", "a copy recovered from a state that a power cut could have left"),
    ("crash_states_compared", "and its state was compared with another one's at the same index"),
    ("foreign_disks_refused", "a member refused the disk of another one"),
    ("older_disks_taken", "a member went on from its own disk of some time ago, and caught up"),
    ("lost_promises_noticed", "a member was told that it had lost what it once acknowledged, and stopped"),
    ("disk_sync_failed_wal", "a sync of the log failed"),
    ("disk_sync_failed_snap", "a sync of a snapshot failed"),
    ("disk_sync_failed_backend", "a sync of RocksDB failed"),
    ("disk_no_room_wal", "the log found no room"),
    ("disk_no_room_snap", "a snapshot found no room"),
    ("disk_no_room_backend", "RocksDB found no room"),
    ("disk_write_failed_wal", "a write of the log failed"),
    ("disk_write_failed_snap", "a write of a snapshot failed"),
    ("disk_write_failed_backend", "a write of RocksDB failed"),
    ("disk_read_failed_wal", "the log could not be read"),
    ("disk_read_failed_snap", "a snapshot could not be read"),
    ("disk_read_failed_backend", "RocksDB could not read"),
    ("disk_rot_read_wal", "rot was read from the log"),
    ("disk_rot_read_snap", "rot was read from a snapshot"),
    ("disk_rot_read_backend", "rot was read by RocksDB"),
    ("disk_lost_write_read_wal", "a lost write was read from the log"),
    ("disk_lost_write_read_snap", "a lost write was read from a snapshot"),
    ("disk_lost_write_read_backend", "a lost write was read by RocksDB"),
    ("disk_misdirected_write_read_wal", "a misdirected write was read from the log"),
    ("disk_misdirected_write_read_snap", "a misdirected write was read from a snapshot"),
    ("disk_misdirected_write_read_backend", "a misdirected write was read by RocksDB"),
    ("disk_jobs_late", "RocksDB was written to while a job of its background was still to be done"),
    ("disk_sync_slow_wal", "a sync of the log took very long"),
    ("disk_sync_slow_snap", "a sync of a snapshot took very long"),
    ("net_cuts", "a link was cut"),
    ("net_stalls", "a link was stalled"),
    ("net_held", "bytes waited at a link that was closed"),
    ("net_gave_up", "a kernel gave a connection up"),
    ("net_broken", "an end of a connection broke"),
    ("net_answered_with_reset", "a machine was sent bytes of a connection that it did not know"),
    ("net_connects_refused", "a connect was refused"),
    ("net_connects_lost", "a connect got no answer"),
    ("net_resets", "connections were broken at both ends"),
    ("leader_cut_from_majority", "links were such that whoever led could not exchange a word with most of the members"),
    ("two_believed_to_lead", "an old leader did not know yet that there was a new one"),
    ("message_lost", "a message between members was lost"),
    ("message_repeated", "a message arrived again"),
    ("message_reordered", "a message arrived after one that was sent later"),
    ("message_held", "a message was kept from going on"),
    ("message_held_past_a_term", "a message was held until its term was over, and arrived"),
    ("message_late_from_an_old_term", "a message was so late that its term was over"),
    ("message_late_from_an_old_stream", "a message arrived by another stream than it was sent by"),
    ("message_corrupted", "a frame was damaged on its way"),
    ("message_snapshot_lost", "a piece of a snapshot was lost"),
    ("message_snapshot_repeated", "a piece of a snapshot came twice"),
    ("message_snapshot_reordered", "a piece of a snapshot came after the one that follows it"),
    ("message_snapshot_corrupted", "a piece of a snapshot was damaged on its way"),
    ("damage_refused", "a member refused a frame or piece because of its checksum"),
    ("majority_down", "most of the members were down at once"),
    ("all_down", "all members were down at once"),
    ("majority_paused", "most of the members stood still at once"),
    ("all_paused", "all members stood still at once"),
    ("pause_on_follower", "a follower stood still"),
    ("stutter_on_leader", "a leader stood still by turns"),
    ("clock_step_on_leader", "a leader's wall clock jumped"),
    ("clock_drift_on_leader", "a leader's clocks ran fast or slow"),
    ("clock_drift_on_follower", "a follower's clocks ran fast or slow"),
    ("clock_freeze_on_leader", "a leader's wall clock stood"),
    ("clock_drifting_sleep", "a sleep was measured by a clock that drifts"),
    ("crash_on_leader", "a leader was killed"),
    ("crash_on_follower", "a follower was killed"),
    ("power_loss_on_leader", "a leader lost power"),
    ("power_loss_on_follower", "a follower lost power"),
    ("sync_fails_on_leader", "a leader's disk was to fail a sync"),
    ("sync_fails_on_follower", "a follower's disk was to fail a sync"),
    ("disk_full_on_leader", "a leader's disk was full"),
    ("disk_full_on_follower", "a follower's disk was full"),
    ("write_errors_on_leader", "a leader's disk failed writes"),
    ("write_errors_on_follower", "a follower's disk failed writes"),
    ("read_errors_on_leader", "a leader's disk failed reads"),
    ("read_errors_on_follower", "a follower's disk failed reads"),
    ("bit_rot_on_leader", "a leader's disk rotted"),
    ("bit_rot_on_follower", "a follower's disk rotted"),
    ("slow_disk_on_leader", "a leader's disk was slow"),
    ("slow_disk_on_follower", "a follower's disk was slow"),
    ("hung_disk_on_leader", "a leader's disk stood still"),
    ("hung_disk_on_follower", "a follower's disk stood still"),
];

/// How often a run counted `name`, as a situation or as a fault.
#[must_use]
pub fn count(summary: &Summary, name: &str) -> u64 {
    summary.met.get(name).or(summary.faults.get(name)).copied().unwrap_or(0)
}

/// Whether a scenario may require `name`.
#[must_use]
pub fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

/// Everything that a scenario may require.
pub fn names() -> impl Iterator<Item = &'static str> {
    SITUATIONS.iter().map(|row| row.0).chain(FaultKind::ALL.iter().map(|row| row.name))
}

/// What a sweep says of them: how many it came to, and the others by name.
#[must_use]
pub fn report(summaries: &[Summary]) -> String {
    let never: Vec<&str> = SITUATIONS
        .iter()
        .map(|row| row.0)
        .filter(|name| summaries.iter().all(|summary| count(summary, name) == 0))
        .collect();
    let all = SITUATIONS.len();
    let occurred = all - never.len();
    match never.as_slice() {
        [] => format!("situations: all {all} occurred"),
        never => format!("situations: {occurred} of {all} occurred; never: {}", never.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::names;

    /// No name stands for two things.
    #[test]
    fn names_are_unique() {
        let mut all: Vec<&str> = names().collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
