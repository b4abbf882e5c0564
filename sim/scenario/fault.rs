//! What can go wrong: every kind of fault, whom it meets, when.
//!
//! Invariants:
//! * Every kind has one row in [`FaultKind::ALL`]: its name, its sentence, and what may be said about it in a file.
//! * A kind says what is meant, not how the world does it.

use super::Span;
use super::plan::Files;
use crate::messages::MessageKind;

/// One `[[fault]]`: what goes wrong, to whom, when, for how long. Times in microseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What goes wrong.
    pub what: FaultKind,
    /// To whom.
    pub whom: Whom,
    /// When.
    pub when: When,
    /// For how long, in microseconds.
    pub lasts_us: Span,
    /// With which files; `None`: with all.
    pub files: Option<Files>,
    /// With messages of which kind; `None`: of any.
    pub messages: Option<MessageKind>,
    /// How much, in the unit of the kind ([`Amount`]).
    pub amount: u64,
    /// Whether it waits, from its time on, until something changes on the disk of whom it is to meet.
    pub awaits_writes: bool,
}

/// What can go wrong.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// No byte passes between the members named and the other members; clients still reach both sides.
    Partition,
    /// The members named hear nothing from the other members; what they say is heard.
    Deaf,
    /// The members named are heard by no other member; what others say reaches them.
    Mute,
    /// No byte passes between the members named and anybody else, clients included.
    Isolate,
    /// No byte passes between the members named and any client.
    CutClients,
    /// The members fall into several groups that cannot reach each other.
    Groups,
    /// Each member reaches its two neighbours in a ring alone (in a line, where a ring would be whole).
    Ring,
    /// Two halves that only one member reaches both.
    Bridge,
    /// The links of the members named are cut and healed by turns.
    Flap,
    /// Some members are cut off one after another, and come back in another order.
    Swizzle,
    /// Every byte between the members named and the other members travels long, and each as long as it likes.
    Slow,
    /// Few bytes a second pass between the members named and the other members.
    Narrow,
    /// Bytes between the members named and the other members wait, and arrive all at once.
    Stall,
    /// All connections of the members named break.
    Reset,
    /// All connections to the members named break, and new ones are refused.
    Refuse,
    /// All connections to the members named break, and attempts to connect get no answer.
    Hang,
    /// Some messages between the members named and the other members are lost.
    LoseMessages,
    /// Some messages arrive twice, the second time late; forwarded proposals never do.
    RepeatMessages,
    /// Some messages arrive late, after others that were sent later.
    ReorderMessages,
    /// A bit of some messages is turned over on the way.
    CorruptMessages,
    /// Some messages arrive when the fault is over; pieces of snapshots are not held.
    HoldMessages,
    /// The process ends at once; the page cache survives. It is started again at the end.
    Crash,
    /// The machine loses power: what was not synced is lost. It is started again at the end.
    PowerLoss,
    /// The machine loses power, and whatever that could leave of its disk is recovered from, apart from the cluster.
    CrashStates,
    /// The process stands still; its connections stay open.
    Pause,
    /// The process stands still by turns: a machine with too little time for it.
    Stutter,
    /// Who leads is asked to hand leadership to the members named.
    MoveLeader,
    /// The next sync of a file fails, and the kernel forgets what it should have saved.
    SyncFails,
    /// There is no room on the disk.
    DiskFull,
    /// Some writes fail half way.
    WriteErrors,
    /// Some reads fail.
    ReadErrors,
    /// One bit of a file reads wrong until an operator restores the file.
    BitRot,
    /// A write is acknowledged, synced, and never done.
    LostWrite,
    /// A write is acknowledged, synced, and done at another place.
    MisdirectedWrite,
    /// The member is given its disk of some time ago. If it refuses it, it gets its own back at the end.
    OldDisk,
    /// The member is given another one's disk, and its own back at the end.
    ForeignDisk,
    /// Syncs take long.
    SlowDisk,
    /// Syncs take until the fault is over.
    HungDisk,
    /// The wall clock jumps ahead or back, and jumps back at the end.
    ClockStep,
    /// The clocks run fast or slow.
    ClockDrift,
    /// The wall clock stands.
    ClockFreeze,
}

/// What `amount` means for a kind: unit, lowest, usual, highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub &'static str, pub u64, pub u64, pub u64);

/// One row of the table of faults.
pub struct Row {
    /// The kind.
    pub kind: FaultKind,
    /// Its name in files.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// What may be said of it besides whom, when and how long.
    pub says: Says,
}

/// What may be said of a kind of fault in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Nothing more.
    Nothing,
    /// Whom it meets need not be said: it is about all members.
    All,
    /// How much.
    Amount(Amount),
    /// How much; it is about all members.
    AllAmount(Amount),
    /// With which files.
    Files,
    /// With which files, and how much.
    FilesAmount(Amount),
    /// With messages of which kind, and how much.
    MessagesAmount(Amount),
}

impl Says {
    /// What `amount` means, if it may be said.
    #[must_use]
    pub fn amount(self) -> Option<Amount> {
        match self {
            Self::Amount(amount)
            | Self::AllAmount(amount)
            | Self::FilesAmount(amount)
            | Self::MessagesAmount(amount) => Some(amount),
            Self::Nothing | Self::All | Self::Files => None,
        }
    }
}

const fn row(kind: FaultKind, name: &'static str, says: Says, about: &'static str) -> Row {
    Row { kind, name, about, says }
}

/// One in so many operations fails.
const ONE_IN: Amount = Amount("one in so many fails", 1, 3, 1_000_000);

/// One in so many messages is met.
const MET: Says = Says::MessagesAmount(Amount("one in so many", 1, 10, 1_000_000));

impl FaultKind {
    /// The table of faults.
    #[rustfmt::skip]
    pub const ALL: &[Row] = &[
        row(Self::Partition, "partition", Says::Nothing, "no byte passes between the members named and the others"),
        row(Self::Deaf, "deaf", Says::Nothing, "the members named hear nothing from the others, but are heard"),
        row(Self::Mute, "mute", Says::Nothing, "the members named are not heard by the others, but hear them"),
        row(Self::Isolate, "isolate", Says::Nothing, "the members named are cut off from all others and from clients"),
        row(Self::CutClients, "cut-clients", Says::Nothing, "the members named are cut off from clients alone"),
        row(Self::Groups, "groups", Says::AllAmount(Amount("groups at most", 2, 3, 9)), "members fall into groups"),
        row(Self::Ring, "ring", Says::All, "each member reaches only its two neighbours in a ring"),
        row(Self::Bridge, "bridge", Says::All, "two halves that only one member reaches both"),
        row(Self::Flap, "flap", Says::Nothing, "the members named are cut off and come back by turns"),
        row(Self::Swizzle, "swizzle", Says::All, "members are cut off one by one and come back in another order"),
        row(Self::Slow, "slow", Says::Nothing, "bytes between the members named and the others travel long"),
        row(Self::Narrow, "narrow", Says::Amount(Amount("bytes a second", 1_000, 20_000, 10_000_000)),
            "few bytes a second pass between the members named and the others"),
        row(Self::Stall, "stall", Says::Nothing, "bytes between the members named and the others wait, then all arrive"),
        row(Self::Reset, "reset", Says::Nothing, "all connections of the members named break"),
        row(Self::Refuse, "refuse", Says::Nothing, "connections to the members named break, new ones are refused"),
        row(Self::Hang, "hang", Says::Nothing, "connections to the members named break, new ones get no answer"),
        row(Self::LoseMessages, "lose-messages", MET, "some messages to or from the members named are lost"),
        row(Self::RepeatMessages, "repeat-messages", MET, "some messages arrive twice, the second time late"),
        row(Self::ReorderMessages, "reorder-messages", MET, "some messages arrive after others that were sent later"),
        row(Self::CorruptMessages, "corrupt-messages", MET, "a bit of some messages is turned over on the way"),
        row(Self::HoldMessages, "hold-messages", MET, "some messages arrive when the fault is over"),
        row(Self::Crash, "crash", Says::Files, "the process is killed and started again"),
        row(Self::PowerLoss, "power-loss", Says::Files, "the machine loses power and what it had not synced"),
        row(Self::CrashStates, "crash-states", Says::FilesAmount(Amount("states tried at most", 2, 64, 10_000)),
            "the machine loses power, and a copy recovers from each state that this could leave"),
        row(Self::Pause, "pause", Says::Nothing, "the process stands still for a while"),
        row(Self::Stutter, "stutter", Says::Amount(Amount("ms of standing still at a time", 2, 60, 10_000)),
            "the process stands still by turns"),
        row(Self::MoveLeader, "move-leader", Says::Nothing, "leadership is to be handed to the members named"),
        row(Self::SyncFails, "sync-fails", Says::Files, "a sync fails once, and what it should have saved is lost"),
        row(Self::DiskFull, "disk-full", Says::Files, "there is no room on the disk, then there is again"),
        row(Self::WriteErrors, "write-errors", Says::FilesAmount(ONE_IN), "some writes fail half way"),
        row(Self::ReadErrors, "read-errors", Says::FilesAmount(ONE_IN), "some reads fail"),
        row(Self::BitRot, "bit-rot", Says::Files, "a bit reads wrong until the file is restored; minorities only"),
        row(Self::LostWrite, "lost-write", Says::Files,
            "a synced write was never done, until the file is restored; minorities only"),
        row(Self::MisdirectedWrite, "misdirected-write", Says::Files,
            "a synced write was done at another place, until the files are restored; minorities only"),
        row(Self::OldDisk, "old-disk", Says::Amount(Amount("ms of age at most", 1, 5_000, 600_000)),
            "the member is started on its disk of some time ago; minorities only"),
        row(Self::ForeignDisk, "foreign-disk", Says::Nothing,
            "the member is started on the disk of another one, and must refuse it; minorities only"),
        row(Self::SlowDisk, "slow-disk", Says::FilesAmount(Amount("ms a sync takes at most", 2, 300, 60_000)),
            "syncs take long"),
        row(Self::HungDisk, "hung-disk", Says::Files, "syncs take until the fault is over"),
        row(Self::ClockStep, "clock-step", Says::Amount(Amount("ms at most", 1, 60_000, 86_400_000_000)),
            "the wall clock jumps ahead or back, and jumps back at the end"),
        row(Self::ClockDrift, "clock-drift", Says::Amount(Amount("ppm at most", 1, 50_000, 500_000)),
            "the clocks run fast or slow"),
        row(Self::ClockFreeze, "clock-freeze", Says::Nothing, "the wall clock stands"),
    ];

    /// Its row in the table.
    #[must_use]
    pub fn row(self) -> &'static Row {
        Self::ALL.iter().find(|row| row.kind == self).expect("every kind has a row")
    }

    /// The name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }
}

/// Whom a fault meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Who leads at that moment.
    Leader,
    /// Some member that does not lead at that moment.
    Follower,
    /// Any one.
    Random,
    /// Every one.
    All,
    /// The smallest number that is more than half.
    Majority,
    /// The largest number that is less than half.
    Minority,
    /// These.
    Named(Vec<String>),
}

impl Whom {
    /// The words that stand for a choice.
    pub const WORDS: &[(&'static str, Self)] = &[
        ("leader", Self::Leader),
        ("follower", Self::Follower),
        ("random", Self::Random),
        ("all", Self::All),
        ("majority", Self::Majority),
        ("minority", Self::Minority),
    ];
}

/// When a fault starts, in microseconds since the first member was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Once.
    At(Span),
    /// Again and again, with such gaps between starts.
    Every {
        /// From one start to the next.
        gap_us: Span,
        /// Within these times.
        from_us: u64,
        /// The end of them.
        until_us: u64,
    },
}
