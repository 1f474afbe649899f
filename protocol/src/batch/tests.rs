//! Lists of inputs and of results: what is written is read again, and whatever else may stand there is refused or skipped.

use super::*;

fn batch(request: &str, items: &[&[u8]]) -> Vec<u8> {
    let mut data = Vec::new();
    write_batch_head(&mut data, request, u32::try_from(items.len()).unwrap());
    items.iter().for_each(|item| data.extend_from_slice(item));
    data
}

fn all<'a>(mut values: Values<'a>) -> Result<Vec<&'a [u8]>, DataError> {
    let mut all = Vec::new();
    while let Some(value) = values.next_value()? {
        all.push(value);
    }
    Ok(all)
}

#[test]
fn inputs_of_every_kind_are_given_out_one_by_one() {
    let items: [&[u8]; 8] = [
        b"\x07",
        b"\xff",
        b"\xa5seven",
        b"\xc4\x02\x00\x01",
        b"\x82\xa1a\x92\x01\x02\xa1b\xc0",
        b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\xdc\x00\x02\xc2\xc3",
        b"\xd9\x03abc",
    ];
    let data = batch("resize", &items);
    let read = Batch::decode(&data).unwrap();
    assert_eq!((read.request, read.items.left()), ("resize", 8));
    assert_eq!(all(read.items).unwrap(), items);
}

#[test]
fn keys_may_stand_in_any_order_and_unknown_ones_are_skipped() {
    for data in [
        &b"\x82\xa5items\x92\x01\x02\xa3req\xa2DO"[..],
        b"\x83\xa4more\x81\xa1x\x90\xa5items\x92\x01\x02\xa3req\xa2DO",
        b"\x83\xa3req\xa2DO\xa5items\x92\x01\x02\xa4more\x93\x01\x02\x03",
        b"\xde\x00\x02\xd9\x03req\xd9\x02DO\xa5items\xdd\x00\x00\x00\x02\x01\x02",
    ] {
        let read = Batch::decode(data).unwrap();
        assert_eq!(
            (read.request, all(read.items).unwrap()),
            ("DO", vec![&b"\x01"[..], b"\x02"]),
            "{data:x?}"
        );
    }
}

#[test]
fn what_is_no_batch_is_refused() {
    for (data, error) in [
        (&b"\xc0"[..], DataError::WrongType),
        (b"\x80", DataError::MissingKey),
        (b"\x81\xa3req\xa2DO", DataError::MissingKey),
        (b"\x82\xa3req\x01\xa5items\x91\x01", DataError::WrongType),
        (b"\x82\xa3req\xa2DO\xa5items\x01", DataError::WrongType),
        (b"\x82\xa3req\xa2DO\xa5items\x90", DataError::WrongCount),
        (b"\x82\xa3req\xa2DO\xa5items\xdd\x00\x01\x00\x00\x01", DataError::WrongCount),
        (b"\x82\xa3req\xa2DO\xa3req\xa2DO", DataError::DuplicateKey),
        (b"\x82\x01\xa2DO\xa5items\x91\x01", DataError::KeyNotText),
        (b"\x82\xa3req", DataError::Truncated),
    ] {
        assert_eq!(Batch::decode(data).map(|_| ()), Err(error), "{data:x?}");
    }
}

#[test]
fn inputs_that_are_cut_off_or_followed_by_something_are_found_out_in_their_turn() {
    let mut values = Values::new(3, b"\x01\xa5sev");
    assert_eq!(values.next_value(), Ok(Some(&b"\x01"[..])));
    assert_eq!(values.next_value(), Err(DataError::Truncated));
    assert_eq!(values.next_value(), Ok(None), "no more after an error");
    assert_eq!(all(Values::new(1, b"\x01\x02")), Err(DataError::TrailingBytes));
    assert_eq!(all(Values::new(2, b"\x01\xc7\x01\x01\x01")), Err(DataError::Extension));
}

/// What was read of a list of results.
fn read(data: &[u8]) -> Result<Vec<BatchResult<'_>>, DataError> {
    let mut results = Results::decode(data)?;
    let mut all = Vec::new();
    loop {
        let (count, good) = results.next_good()?;
        let before = all.len();
        all.extend(GoodResults::new(good).map(BatchResult::Good));
        if all.len() - before != count as usize {
            return Err(DataError::WrongCount);
        }
        match results.next_result()? {
            Some(result) => all.push(result),
            None => return Ok(all),
        }
    }
}

#[test]
fn results_are_read_as_they_were_written_good_and_bad() {
    for (most, count) in [(1, 1), (15, 15), (15, 3), (16, 16), (65_535, 2), (300, 300)] {
        let mut out = vec![7];
        let mut list = ResultList::begin(most, &mut out);
        let mut expected = Vec::new();
        for number in 0..count {
            if number % 3 == 2 {
                list.bad(&mut out, &Failure::new("acme.odd", "not this one"));
                expected.push(None);
            } else {
                let written = list.good(&mut out, |out| {
                    wire::write_uint(out, number);
                    Ok::<(), ()>(())
                });
                assert_eq!(written, Ok(()));
                expected.push(Some(number));
            }
            let refused = list.good(&mut out, |out| {
                out.push(9);
                Err("no")
            });
            assert_eq!(refused, Err("no"));
        }
        assert_eq!(u64::from(list.count()), count);
        list.finish(&mut out);
        let found: Vec<Option<u64>> = read(&out[1..])
            .unwrap()
            .into_iter()
            .map(|result| match result {
                BatchResult::Good(value) => match Reader::new(value).marker() {
                    Ok(Marker::Unsigned(number)) => Some(number),
                    other => panic!("{other:?}"),
                },
                BatchResult::Bad(failure) => {
                    assert_eq!(Failure::decode(failure).code, "acme.odd");
                    None
                }
            })
            .collect();
        assert_eq!((out[0], found), (7, expected), "{count} of at most {most}");
    }
}

#[test]
fn results_in_wider_forms_mean_the_same() {
    let wide = b"\xdd\x00\x00\x00\x03\xdc\x00\x02\xc3\x07\x92\xc3\x08\xdd\x00\x00\x00\x02\xc2\x80";
    assert_eq!(
        read(wide).unwrap(),
        [BatchResult::Good(b"\x07"), BatchResult::Good(b"\x08"), BatchResult::Bad(b"\x80")]
    );
}

#[test]
fn what_is_no_list_of_results_is_refused() {
    for (data, error) in [
        (&b"\x01"[..], DataError::WrongType),
        (b"\x91\x01", DataError::WrongType),
        (b"\x91\x93\xc3\x01\x02", DataError::WrongType),
        (b"\x91\x92\x01\x01", DataError::WrongType),
        (b"\x91\x92\xc3", DataError::Truncated),
        (b"\x92\x92\xc3\x01", DataError::Truncated),
        (b"\x91\x92\xc3\x01\x02", DataError::TrailingBytes),
        (b"\x91\x92\xc3\xa5sev", DataError::Truncated),
        (b"\x91\x92\xc3\xdf\xff\xff\xff\xff", DataError::Truncated),
        (b"\x91\x92\xc3\xdd\xff\xff\xff\xff\xc1", DataError::ReservedByte),
    ] {
        assert_eq!(read(data), Err(error), "{data:x?}");
    }
}

#[test]
fn a_declared_number_costs_nothing_until_it_has_come() {
    // Four thousand million maps of as many entries each, in nine bytes.
    let deep = b"\xdd\xff\xff\xff\xff\xdf\xff\xff\xff\xff";
    assert_eq!(value_len(deep), Err(DataError::Truncated));
    assert_eq!(
        value_len(b"\xc6\xff\xff\xff\xff").map(|len| len > 5),
        Ok(true),
        "the caller sees that it is not there"
    );
}
