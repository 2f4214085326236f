//! What becomes of the set when answers come, fail and are missing.

use super::*;

fn some(texts: &[&str], seconds: u64) -> Answer<IpAddr> {
    Answer::Records {
        records: texts.iter().map(|text| text.parse().unwrap()).collect(),
        ttl: Duration::from_secs(seconds),
    }
}

fn failed() -> Answer<IpAddr> {
    Answer::Failed("nobody answered".into())
}

fn found(seconds: u64, is_new: bool) -> (Duration, bool) {
    (Duration::from_secs(seconds), is_new)
}

/// What is said after an answer for IPv4 and one for IPv6.
fn take(
    families: &mut Families,
    four: Answer<IpAddr>,
    six: Answer<IpAddr>,
) -> Result<(Duration, bool), String> {
    let taken = families.take("db.test", [four, six]);
    taken.map_err(|error| error.to_string())
}

fn shown(families: &Families) -> Vec<String> {
    let snapshot = families.snapshot(5432);
    let shown = snapshot.nodes.iter().map(|node| node.place.to_string());
    shown.collect()
}

#[test]
fn says_a_set_once_whatever_its_order() {
    let mut families = Families::default();
    let first = take(
        &mut families,
        some(&["10.0.0.2", "10.0.0.1"], 5),
        some(&["::1"], 9),
    );
    assert_eq!(first, Ok(found(5, true)));
    assert_eq!(
        shown(&families),
        ["10.0.0.1:5432", "10.0.0.2:5432", "[::1]:5432"]
    );
    let again = take(
        &mut families,
        some(&["10.0.0.1", "10.0.0.2"], 7),
        some(&["::1"], 9),
    );
    assert_eq!(again, Ok(found(7, false)));
    let other = take(&mut families, some(&["10.0.0.1"], 7), some(&["::1"], 9));
    assert_eq!(other, Ok(found(7, true)));
}

#[test]
fn keeps_the_family_that_nobody_answers_for() {
    let mut families = Families::default();
    take(&mut families, some(&["10.0.0.1"], 60), some(&["::1"], 60)).unwrap();
    for _ in 0..10 {
        let taken = take(&mut families, some(&["10.0.0.1"], 60), failed());
        assert_eq!(taken, Ok(found(1, false)), "it is asked for again soon");
    }
    assert_eq!(shown(&families), ["10.0.0.1:5432", "[::1]:5432"]);
}

#[test]
fn believes_that_a_family_is_gone_when_it_is_said_again() {
    let mut families = Families::default();
    take(&mut families, some(&["10.0.0.1"], 60), some(&["::1"], 60)).unwrap();
    for _ in 0..2 {
        let taken = take(&mut families, some(&["10.0.0.1"], 60), Answer::None);
        assert_eq!(taken, Ok(found(1, false)));
    }
    let taken = take(&mut families, some(&["10.0.0.1"], 60), Answer::None);
    assert_eq!(taken, Ok(found(60, true)));
    assert_eq!(shown(&families), ["10.0.0.1:5432"]);
}

#[test]
fn asks_seldom_for_a_family_that_never_was() {
    let mut families = Families::default();
    let taken = take(&mut families, some(&["10.0.0.1"], 30), Answer::None);
    assert_eq!(taken, Ok(found(30, true)));
}

#[test]
fn says_what_is_wrong_when_there_is_no_address() {
    let mut families = Families::default();
    let none = take(&mut families, Answer::None, Answer::None).unwrap_err();
    assert_eq!(none, "\"db.test\" has no address");
    let failed = take(&mut families, failed(), Answer::None).unwrap_err();
    assert_eq!(failed, "looking up \"db.test\" failed: nobody answered");
}

#[test]
fn says_the_set_again_that_comes_back_after_there_was_none() {
    let mut families = Families::default();
    take(&mut families, some(&["10.0.0.1"], 5), Answer::None).unwrap();
    for _ in 0..2 {
        let taken = take(&mut families, Answer::None, Answer::None);
        assert_eq!(taken, Ok(found(1, false)), "it is missing for a moment");
    }
    take(&mut families, Answer::None, Answer::None).unwrap_err();
    let back = take(&mut families, some(&["10.0.0.1"], 5), Answer::None);
    assert_eq!(
        back,
        Ok(found(5, false)),
        "nobody was told that it had gone"
    );
    let other = take(&mut families, some(&["10.0.0.2"], 5), Answer::None);
    assert_eq!(other, Ok(found(5, true)));
}
