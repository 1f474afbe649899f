//! The list of cases itself: ids, groups, and that every statement of the specification is looked at or excused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{GROUPS, all};
use crate::conform::case::Description;
use crate::conform::parent::plots;

/// Statements that no case can look at, each with its reason.
const ELSEWHERE: &str = include_str!("elsewhere.txt");

fn statements() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../protocol/SPEC.md");
    let text = fs::read_to_string(path).unwrap();
    let ids = text.split("**[").skip(1).filter_map(|part| part.split("]**").next());
    ids.map(str::to_owned).collect()
}

/// The cases for children, and those for parents.
fn descriptions() -> impl Iterator<Item = &'static Description> {
    all().map(|case| &case.about).chain(plots::descriptions())
}

#[test]
fn every_case_has_an_id_of_its_own_in_a_known_group() {
    let mut ids = BTreeSet::new();
    let groups: Vec<&str> = GROUPS.iter().chain(&plots::GROUPS).map(|(group, _)| *group).collect();
    for case in descriptions() {
        assert!(ids.insert(case.id), "two cases are called {}", case.id);
        assert!(groups.contains(&case.group()), "{} is in no group", case.id);
        assert_eq!(
            case.level.is_none(),
            case.group().len() == 2,
            "{} has a level if it is a child's",
            case.id
        );
    }
    assert!(ids.len() > 200, "{}", ids.len());
}

#[test]
fn every_statement_has_a_case_or_a_reason_why_not() {
    let statements = statements();
    let mut reasons = BTreeMap::new();
    for line in ELSEWHERE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (id, reason) = line.split_once(' ').unwrap();
        assert!(reason.trim().len() > 10, "{id} has no reason");
        assert!(reasons.insert(id, reason).is_none(), "{id} is excused twice");
        if let Some((_, shown)) = reason.split_once("; shown by ") {
            let (file, name) = shown.split_once(' ').unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{id}: {file}: {error}"));
            assert!(text.contains(&format!("fn {name}(")), "{id}: {file} has no test {name}");
        }
        assert!(statements.contains(id), "{id} is no statement");
    }
    let mut looked_at = BTreeSet::new();
    for case in descriptions() {
        for id in case.spec {
            assert!(statements.contains(*id), "{} names {id}, which is no statement", case.id);
            looked_at.insert(*id);
        }
    }
    let missing: Vec<_> = statements
        .iter()
        .filter(|id| !looked_at.contains(id.as_str()) && !reasons.contains_key(id.as_str()))
        .collect();
    assert!(missing.is_empty(), "no case looks at {missing:?}, and no reason says why");
    let both: Vec<_> = reasons.keys().filter(|id| looked_at.contains(**id)).collect();
    assert!(both.is_empty(), "{both:?} have a case, and a reason why they have none");
}
