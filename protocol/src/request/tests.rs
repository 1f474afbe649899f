//! Tests of the vocabulary: names, kinds, capabilities, and the table of rules against the specification's.

use super::*;

#[test]
fn user_names_are_anything_but_all_caps() {
    for name in ["DO", "resize", "acme.score", "A.B", "Do", "aB", "A B", "É", "_A", "0A", "A-B", "ÄPFEL", "a"]
    {
        assert_eq!(check_user_name(name), Ok(()), "{name}");
    }
    for name in ["FINISHED", "HELLO", "A", "A1", "A_", "FUTURE_2", "DO_", "DOO", "D"] {
        assert_eq!(check_user_name(name), Err(ApiMisuse::ReservedName), "{name}");
    }
    assert_eq!(check_user_name(""), Err(ApiMisuse::NameLength));
    assert_eq!(check_user_name(&"x".repeat(255)), Ok(()));
    assert_eq!(check_user_name(&"x".repeat(256)), Err(ApiMisuse::NameLength));
}

#[test]
fn a_typed_request_carries_its_name() {
    const RESIZE: Request<u64, String> = Request::new("resize");
    let copy = RESIZE;
    assert_eq!(copy.name(), "resize");
    assert_eq!(format!("{copy:?}"), "Request(\"resize\")");
    assert_eq!(Request::<[u8], ()>::DO.name(), "DO");
}

#[test]
fn names_are_sorted_by_owner() {
    for verb in Verb::ALL {
        assert_eq!(Kind::of(verb.name()), Kind::Verb(verb));
        assert_eq!(verb.to_string(), verb.name());
        assert!(is_all_caps(verb.name()));
    }
    for name in ["DO", "do", "resize", "finished", "Hello", "HELLO!", "HELLO "] {
        assert_eq!(Kind::of(name), Kind::User, "{name}");
    }
    for name in ["PUT", "TAKE", "X", "DO_MORE", "HELLO2", "FINISHED_"] {
        assert_eq!(Kind::of(name), Kind::Unknown, "{name}");
    }
}

#[test]
fn verbs_stand_in_alphabetical_order_without_doubles() {
    assert!(Verb::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()));
    assert!(Capability::ALL.windows(2).all(|pair| pair[0].name() < pair[1].name()));
}

#[test]
fn the_rules_are_those_of_the_specification() {
    use IdOwner::{Receiver, Sender};
    use IdRule::{Any, Task, Zero};
    // Name, from parent, from child, id, owner, capability, final.
    let table = [
        ("BATCH", true, false, Task, Sender, Some("batch"), false),
        ("BYE", false, true, Zero, Sender, None, false),
        ("CANCEL", true, false, Task, Sender, Some("cancel"), false),
        ("CREDIT", true, true, Any, Sender, Some("credit"), false),
        ("DIE", true, false, Zero, Sender, None, false),
        ("FAILED", true, true, Any, Receiver, None, true),
        ("FINISHED", true, true, Task, Receiver, None, true),
        ("HELLO", true, true, Zero, Sender, None, false),
        ("ITEM", true, true, Task, Receiver, None, false),
        ("LOG", false, true, Any, Receiver, None, false),
        ("META", true, false, Task, Sender, Some("meta"), false),
        ("PING", true, false, Zero, Sender, Some("ping"), false),
        ("PONG", false, true, Zero, Receiver, None, false),
        ("PROGRESS", false, true, Any, Receiver, None, false),
        ("READY", false, true, Zero, Sender, None, false),
        ("STARTED", false, true, Task, Receiver, Some("started"), false),
    ];
    for (verb, row) in Verb::ALL.into_iter().zip(table) {
        let rules = verb.rules();
        let capability = rules.capability.map(Capability::name);
        let found = (
            verb.name(),
            rules.from_parent,
            rules.from_child,
            rules.id,
            rules.owner,
            capability,
            rules.is_final,
        );
        assert_eq!(found, row);
    }
}

#[test]
fn a_verb_that_waits_for_an_answer_of_its_own_needs_a_capability() {
    for verb in [Verb::Batch, Verb::Cancel, Verb::Ping, Verb::Meta] {
        assert!(verb.rules().capability.is_some(), "{verb}");
    }
}

#[test]
fn capabilities_form_a_set_and_unknown_names_are_ignored() {
    let mut set = Capabilities::NONE;
    for name in ["cancel", "teleport", "meta", "cancel", "CANCEL", ""] {
        set.insert_name(name);
    }
    assert_eq!(set, Capabilities::NONE.with(Capability::Cancel).with(Capability::Meta));
    assert_eq!(set.iter().map(Capability::name).collect::<Vec<_>>(), ["cancel", "meta"]);
    assert!(set.has(Capability::Meta) && !set.has(Capability::Ping));
    let all = Capability::ALL.into_iter().fold(Capabilities::NONE, Capabilities::with);
    assert_eq!(all.iter().count(), Capability::ALL.len());
}
