//! Which order records come to, and what becomes of it when answers come, fail and are missing.

use std::time::Duration;

use super::*;

fn known(seed: u64) -> Known {
    Known { seed, said: None }
}

/// Records as a zone file has them: priority, weight, port, target.
fn records(lines: &[&str]) -> Answer<Service> {
    let record = |line: &&str| {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap();
        Service {
            priority: number(0),
            weight: number(1),
            port: number(2),
            target: words[3].into(),
        }
    };
    Answer::Records {
        records: lines.iter().map(record).collect(),
        ttl: Duration::from_secs(7),
    }
}

/// What is said of an answer: places in order with their weights, or who leads, or what is wrong.
fn take(known: &mut Known, answer: Answer<Service>) -> Vec<String> {
    let found = match known.take("_pg._tcp.test", answer) {
        Ok(found) => found,
        Err(error) => return vec![error.to_string()],
    };
    assert_eq!(found.ttl, Duration::from_secs(7));
    let said = found.news.into_iter().flat_map(|news| match news {
        News::Nodes(Snapshot { nodes, lead }) => match lead {
            Lead::Unsaid => {
                let ranks = nodes.iter().map(|node| node.rank);
                assert!(ranks.eq(0..u32::try_from(nodes.len()).unwrap()));
                let shown = nodes.iter();
                shown
                    .map(|node| format!("{} {}", node.place, node.weight))
                    .collect()
            }
            lead => vec![format!("{lead:?} of {}", nodes.len())],
        },
        News::Trouble(error) => vec![error.to_string()],
    });
    said.collect()
}

#[test]
fn lists_lower_priorities_first_whatever_their_names_and_weights() {
    let answer = records(&["20 9 1 a.", "10 1 2 z.", "0 0 3 m.", "65535 65535 4 b."]);
    for seed in 0..100 {
        let said = take(&mut known(seed), answer.clone());
        assert_eq!(said, ["m.:3 1", "z.:2 1", "a.:1 9", "b.:4 65535"]);
    }
}

#[test]
fn draws_the_first_of_a_priority_in_proportion_to_its_weight() {
    let answer = records(&["1 60 1 a.", "1 30 1 b.", "1 10 1 c.", "1 0 1 d."]);
    let firsts: Vec<String> = (0..10_000)
        .map(|seed| take(&mut known(seed), answer.clone()).swap_remove(0))
        .collect();
    let count = |first: &str| firsts.iter().filter(|it| *it == first).count();
    let counts = [count("a.:1 60"), count("b.:1 30"), count("c.:1 10")];
    for (count, wanted) in counts.into_iter().zip([6_000_usize, 3_000, 1_000]) {
        assert!(count.abs_diff(wanted) < 300, "{counts:?}");
    }
    assert!((1..300).contains(&count("d.:1 1")), "seldom, but ever");
}

#[test]
fn says_a_set_once_whatever_its_order() {
    let mut known = known(1);
    let forth = take(&mut known, records(&["1 5 1 a.", "1 5 1 b."]));
    assert_eq!(forth.len(), 2);
    let back = take(&mut known, records(&["1 5 1 b.", "1 5 1 a."]));
    assert_eq!(back, Vec::<String>::new());
    let other = take(&mut known, records(&["2 5 1 a.", "1 5 1 b."]));
    assert_eq!(other, ["b.:1 5", "a.:1 5"]);
    let fewer = take(&mut known, records(&["2 5 1 a."]));
    assert_eq!(fewer, ["a.:1 5"]);
}

#[test]
fn draws_the_same_order_again_when_hosts_come_and_go() {
    let all = ["1 5 1 a.", "1 5 1 b.", "1 5 1 c.", "1 5 1 d."];
    let mut known = known(7);
    let before = take(&mut known, records(&all));
    let mut without = before.clone();
    without.retain(|it| it != "b.:1 5");
    let fewer = [all[0], all[2], all[3]];
    assert_eq!(take(&mut known, records(&fewer)), without);
    assert_eq!(take(&mut known, records(&all)), before);
}

#[test]
fn keeps_what_it_said_when_there_is_no_answer() {
    let mut known = known(1);
    let answer = records(&["1 1 1 a."]);
    take(&mut known, answer.clone());
    let failed = take(&mut known, Answer::Failed("nobody answered".into()));
    assert_eq!(
        failed,
        ["looking up \"_pg._tcp.test\" failed: nobody answered"]
    );
    for _ in 0..10 {
        let missing = take(&mut known, Answer::None);
        assert_eq!(missing, ["\"_pg._tcp.test\" has no SRV record"]);
    }
    assert_eq!(take(&mut known, answer), Vec::<String>::new());
}

#[test]
fn has_nobody_lead_when_the_service_is_decidedly_not_available() {
    let mut known = known(1);
    take(&mut known, records(&["1 1 1 a."]));
    let gone = take(&mut known, records(&["0 0 0 ."]));
    let wrong = "\"_pg._tcp.test\" says that there is no such service: its SRV record's target is \
                 \".\"";
    assert_eq!(gone, ["Nobody of 0", wrong]);
    let again = take(&mut known, records(&["0 0 0 ."]));
    assert_eq!(again, Vec::<String>::new());
    assert_eq!(take(&mut known, records(&["1 1 1 a."])), ["a.:1 1"]);
}

#[test]
fn leaves_out_what_leads_nowhere_beside_what_does() {
    let mut known = known(1);
    let said = take(
        &mut known,
        records(&["0 0 0 .", "1 1 0 a.", "3 9 5 b.", "2 1 5 b.", "3 1 6 b."]),
    );
    assert_eq!(said, ["b.:5 1", "b.:6 1"]);
    let no_port = take(&mut known, records(&["1 1 0 a."]));
    let wrong = "looking up \"_pg._tcp.test\" failed: its SRV records have no port";
    assert_eq!(no_port, [wrong]);
}

#[test]
fn follows_no_more_hosts_than_it_may() {
    let lines: Vec<String> = (1..200).map(|it| format!("{it} 1 1 h{it}.")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let said = take(&mut known(1), records(&lines));
    assert_eq!(said.len(), HOSTS_MAX);
    assert_eq!(said.last().unwrap(), "h128.:1 1");
}
