//! Every fault of the table, with real processes: 66 cases in four groups, each test named after its case. The parent of each
//! is a process of its own (the casebook), and one oracle judges them all (the harness).

// `cfg(test)` tells clippy that the functions in these modules that are no tests themselves belong to tests too.

/// Children that die.
#[cfg(test)]
mod a;

/// Children that hang, and time that is wrong.
#[cfg(test)]
mod b;

/// The parent, and the machine below it.
#[cfg(test)]
mod c;

/// Children that are hostile.
#[cfg(test)]
mod d;

/// The oracle, and how a case is run.
#[cfg(test)]
mod harness;

/// System calls that fail.
#[cfg(test)]
mod strace;

#[cfg(test)]
mod count {
    use stokehold_tests::{Case, DeathCase, ParentCase, TimeCase, WireCase};

    #[test]
    fn no_case_is_missing() {
        assert_eq!((DeathCase::ALL.len(), TimeCase::ALL.len()), (20, 14));
        assert_eq!((ParentCase::ALL.len(), WireCase::ALL.len()), (16, 16));
        assert_eq!(Case::all().len(), 66);
    }
}
