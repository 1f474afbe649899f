//! Tests of the lease table: ids, wrap, order, and that no ticket is lost.

use super::*;

fn table(window: u32) -> Leases<u64> {
    let mut leases = Leases::new();
    leases.reserve(window);
    leases
}

#[test]
fn ids_start_at_one_and_increase() {
    let mut leases = table(4);
    assert_eq!((leases.open(10), leases.open(11), leases.open(12)), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(leases.get(2), Some(&11));
    assert_eq!(leases.len(), 3);
}

#[test]
fn a_table_without_room_gives_the_ticket_back() {
    let mut leases: Leases<u64> = Leases::new();
    assert_eq!(leases.open(1), Err(1));
    assert_eq!(leases.get(1), None);
    assert_eq!(leases.close(1), None);
    assert_eq!(leases.oldest(), None);
    leases.reserve(2);
    assert_eq!((leases.open(1), leases.open(2), leases.open(3)), (Ok(1), Ok(2), Err(3)));
}

#[test]
fn an_id_is_closed_once_and_never_matches_another_of_its_slot() {
    let mut leases = table(2);
    let id = leases.open(7).unwrap();
    assert_eq!(leases.close(id + 4), None, "the same slot, another id");
    assert_eq!(leases.get(id + 4), None);
    assert_eq!(leases.close(id), Some(7));
    assert_eq!(leases.close(id), None);
    assert!(leases.is_empty());
}

#[test]
fn ids_wrap_and_skip_zero() {
    let mut leases = table(4);
    leases.start_at(u32::MAX - 1);
    let ids: Vec<u32> = (0..4).map(|ticket| leases.open(ticket).unwrap()).collect();
    assert_eq!(ids, [u32::MAX - 1, u32::MAX, 1, 2]);
    assert_eq!(leases.oldest(), Some((u32::MAX - 1, &0)));
    assert_eq!(leases.close(u32::MAX - 1), Some(0));
    assert_eq!(leases.oldest(), Some((u32::MAX, &1)), "older than 1, though larger");
    let tickets: Vec<u64> = leases.close_all().into_iter().map(|(_, ticket)| ticket).collect();
    assert_eq!(tickets, [1, 2, 3]);
}

#[test]
fn an_id_still_open_after_a_whole_round_is_skipped() {
    let mut leases = table(2);
    let held = leases.open(99).unwrap();
    leases.start_at(u32::MAX);
    let mut given = Vec::new();
    for ticket in 0..8 {
        let id = leases.open(ticket).unwrap();
        given.push(id);
        assert_eq!(leases.close(id), Some(ticket));
    }
    assert!(!given.contains(&held) && !given.contains(&0), "{given:?}");
    assert_eq!(leases.get(held), Some(&99));
}

#[test]
fn the_oldest_is_found_across_holes() {
    let mut leases = table(64);
    let ids: Vec<u32> = (0..64).map(|ticket| leases.open(ticket).unwrap()).collect();
    for id in ids.iter().filter(|id| *id % 3 != 0) {
        leases.close(*id);
    }
    let rest: Vec<u32> = leases.close_all().into_iter().map(|(id, _)| id).collect();
    let expected: Vec<u32> = ids.into_iter().filter(|id| id % 3 == 0).collect();
    assert_eq!(rest, expected);
}

#[test]
fn a_gap_of_millions_does_not_hide_the_oldest() {
    let mut leases = table(4);
    let held = leases.open(0).unwrap();
    assert_eq!(leases.oldest(), Some((held, &0)));
    leases.next += 3 << 32;
    let second = leases.open(1).unwrap();
    let third = leases.open(2).unwrap();
    assert_eq!(leases.oldest(), Some((held, &0)));
    leases.close(held);
    assert_eq!(leases.oldest(), Some((second, &1)));
    leases.close(second);
    assert_eq!(leases.oldest(), Some((third, &2)));
}

#[test]
fn growing_keeps_every_ticket() {
    let mut leases = table(2);
    leases.start_at(u32::MAX);
    let mut kept = vec![(leases.open(100).unwrap(), 100), (leases.open(101).unwrap(), 101)];
    for window in [3, 17, 1_000, 5] {
        leases.reserve(window);
        kept.push((leases.open(u64::from(window)).unwrap(), u64::from(window)));
        for (id, ticket) in &kept {
            assert_eq!(leases.get(*id), Some(ticket));
        }
    }
    assert_eq!(leases.close_all(), kept);
}

#[test]
fn the_table_agrees_with_a_plain_list_over_a_long_random_run() {
    let mut leases = table(16);
    leases.start_at(u32::MAX - 500);
    let mut model: Vec<(u32, u64)> = Vec::new();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for ticket in 0..20_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if random.is_multiple_of(2) && model.len() < 16 {
            let id = leases.open(ticket).unwrap();
            assert!(id != 0 && model.iter().all(|(open, _)| *open != id));
            model.push((id, ticket));
        } else if !model.is_empty() {
            let (id, ticket) = model.remove((random % 97) as usize % model.len());
            assert_eq!(leases.close(id), Some(ticket));
        }
        assert_eq!(leases.oldest().map(|(id, ticket)| (id, *ticket)), model.first().copied());
        assert_eq!(leases.len() as usize, model.len());
    }
}
