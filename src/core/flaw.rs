//! Mistakes that the core or its driver could make, to be made on purpose in a test: whoever watches over it must find each.

/// One mistake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Flaw {
    /// Tasks go several in one frame whatever their policy asks for each.
    BatchesAnything,
    /// Several tasks in one frame go to a worker that takes one.
    BatchesForAnybody,
    /// The oldest task of a dead worker is blamed, whatever the worker said about its order.
    BlamesTheOldestAlways,
    /// A task that only waited in a dead worker's window loses a life.
    BlamesTheQueued,
    /// Every task of a batch loses a life with its worker.
    BlamesTheWholeBatch,
    /// The task behind one that was cancelled is stopped for it.
    CancelHitsTheNext,
    /// A task that could not be done does not come to the dead letters.
    DropsDeadLetters,
    /// What is left of a batch is taken for what stands at its front, whatever results were given.
    ForgetsGivenParts,
    /// Fruitless lives are not counted.
    ForgetsIntensity,
    /// The limit of all attempts is forgotten while a stream is full.
    ForgetsTotalWhilePaused,
    /// A death is judged before what the worker had written is read. (The driver's order, made by the world.)
    JudgesBeforeDrain,
    /// The timers of a task stay when it has ended.
    KeepsTimers,
    /// A task that ended while it stood in a worker is not stopped when its turn comes.
    LeavesGhosts,
    /// Of a batch whose worker died only the first task comes to another.
    LosesTheRest,
    /// A worker that was not read while a stream was full is never read again.
    NeverResumes,
    /// A task that must not run twice is handed to a worker that has others.
    OnceInCompany,
    /// PROGRESS extends the hard limit.
    ProgressExtendsTheHardLimit,
    /// PROGRESS does not extend the soft limit.
    ProgressExtendsNothing,
    /// The room of a batch that is taken apart is given back with it, and with each of its tasks.
    ReleasesTwice,
    /// A worker is retired before the one in its place is ready.
    RetiresBeforeReady,
    /// A task that takes too long is tried again before its worker is gone.
    RetriesBeforeReap,
    /// A task that kills its workers is tried again and again.
    RetriesForEver,
    /// An answer is taken for whatever the worker has, whatever it names.
    TakesAnyAnswer,
}

impl Flaw {
    /// All of them.
    pub(crate) const ALL: [Self; 23] = [
        Self::BatchesAnything,
        Self::BatchesForAnybody,
        Self::BlamesTheOldestAlways,
        Self::BlamesTheQueued,
        Self::BlamesTheWholeBatch,
        Self::CancelHitsTheNext,
        Self::DropsDeadLetters,
        Self::ForgetsGivenParts,
        Self::ForgetsIntensity,
        Self::ForgetsTotalWhilePaused,
        Self::JudgesBeforeDrain,
        Self::KeepsTimers,
        Self::LeavesGhosts,
        Self::LosesTheRest,
        Self::NeverResumes,
        Self::OnceInCompany,
        Self::ProgressExtendsTheHardLimit,
        Self::ProgressExtendsNothing,
        Self::ReleasesTwice,
        Self::RetiresBeforeReady,
        Self::RetriesBeforeReap,
        Self::RetriesForEver,
        Self::TakesAnyAnswer,
    ];
}

impl<T> super::Supervisor<T> {
    /// Whether that mistake is to be made.
    pub(in crate::core) fn has_flaw(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }
}
