//! Whole configurations, good and bad: what comes out, and every message word for word.

use super::*;

/// The messages for a text, one string each, as `check` prints them.
fn problems_of(text: &str) -> Vec<String> {
    let mut problems = Problems::default();
    let mut config = Config::default();
    let source = Source {
        name: "m.toml".into(),
        text: text.into(),
    };
    config.read_source(&source, &mut problems);
    config.check(
        &Place {
            source: "m.toml".into(),
            line: None,
        },
        &mut problems,
    );
    problems
        .into_sorted()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The messages without the warnings.
fn errors_of(text: &str) -> Vec<String> {
    let is_error = |problem: &String| !problem.contains(": warning: ");
    problems_of(text).into_iter().filter(is_error).collect()
}

fn read(text: &str) -> Config {
    let mut problems = Problems::default();
    let mut config = Config::default();
    config.read_source(
        &Source {
            name: "m.toml".into(),
            text: text.into(),
        },
        &mut problems,
    );
    assert_eq!(problems.into_sorted(), []);
    config
}

const SERVICE: &str = "[[service]]\nname = \"app\"\nlisten = [\"127.0.0.1:6432\"]\n\
                       upstream = \"postgres://127.0.0.1:5432\"\n";

#[test]
fn fills_in_defaults_when_the_file_is_the_shortest_useful_one() {
    let config = read(SERVICE);
    assert_eq!(config.driver, Wanted::Auto);
    assert_eq!(config.log, Log::Warn);
    assert_eq!(config.drain_time_max, Duration::from_secs(30));
    assert!(config.shards >= 1);
    let [service] = &config.services[..] else {
        panic!("one service")
    };
    assert_eq!(&*service.name, "app");
    assert_eq!(service.connections_max, 20);
    assert_eq!(service.auth, manifold_core::auth::Auth::Relay);
    assert_eq!(service.listen[0].value.to_string(), "127.0.0.1:6432");
    assert_eq!(service.upstream.whereabouts.to_string(), "127.0.0.1:5432");
}

#[test]
fn takes_every_key_when_it_is_given() {
    let config = read(
        "shards = 3\ndriver = \"epoll\"\nlog = \"debug\"\ndrain_time_max = \"5s\"\n\
         [limits]\nclients_max = 7\noutput_high = \"8KiB\"\n\
         [[service]]\nname = \"a\"\nlisten = \"unix:/run/a\"\nupstream = \"postgres://db\"\n\
         connections_max = 4\nauth = \"trust\"\n\
         [[service]]\nname = \"b\"\nlisten = [\"[::1]:1\", \"127.0.0.1:1\"]\n\
         upstream = \"postgres:///?host=/run\"\n",
    );
    assert_eq!(
        (config.shards, config.driver, config.log),
        (3, Wanted::Epoll, Log::Debug)
    );
    assert_eq!(config.drain_time_max, Duration::from_secs(5));
    assert_eq!(
        (config.limits.clients_max, config.limits.output_high),
        (7, 8 << 10)
    );
    let names: Vec<_> = config
        .services
        .iter()
        .map(|service| &*service.name)
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(config.services[0].connections_max, 4);
    assert_eq!(config.services[1].listen.len(), 2);
}

#[test]
fn warns_of_reconnections_when_auth_is_relay() {
    assert_eq!(
        problems_of(SERVICE),
        [
            "m.toml:1: warning: service \"app\": auth = \"relay\" keeps no secret, so an upstream \
          that was opened by an md5 or SCRAM login cannot be opened again: if it is lost, its \
          clients have to reconnect\n  hint: auth = \"users\" with a users file lets the proxy \
          log in by itself"
        ]
    );
}

#[test]
fn warns_when_trust_is_reachable_from_elsewhere() {
    let text = SERVICE.replace("127.0.0.1:6432", "0.0.0.0:6432") + "auth = \"trust\"\n";
    assert_eq!(
        problems_of(&text),
        [
            "m.toml:3: warning: service \"app\": auth = \"trust\" believes everybody who reaches \
          0.0.0.0:6432\n  hint: listen on loopback only"
        ]
    );
    assert_eq!(
        problems_of(&(SERVICE.to_owned() + "auth = \"trust\"\n")),
        Vec::<String>::new()
    );
}

#[test]
fn collects_every_error_when_there_are_many() {
    let text = "shard = 2\ndriver = \"uring\"\nclients_max = 5\nlog = 3\n\
                [limits]\nclients_max = 0\nstall_time = 20\noutput_high = \"64KB\"\n\
                pipe_depth_max = \"256\"\nmessage_bytes_max = \"2GiB\"\ncolour = \"red\"\n\
                [[service]]\nname = \"app\"\nlistne = \"127.0.0.1:6432\"\n\
                upstream = \"postgres://me@db\"\nauth = \"users\"\nconnections_max = 0\n";
    assert_eq!(
        errors_of(text),
        [
            "m.toml:1: unknown key \"shard\" at the top of the file\n  \
             hint: did you mean \"shards\"?",
            "m.toml:2: driver: \"uring\" is not known\n  \
             hint: one of \"auto\", \"io_uring\", \"epoll\"",
            "m.toml:3: unknown key \"clients_max\" at the top of the file\n  \
             hint: it belongs under [limits]",
            "m.toml:4: log: expected a text, found the number 3\n  hint: write it in quotes",
            "m.toml:5: message_bytes_max is above PostgreSQL's own bound\n  \
             hint: the largest message has 1073741823B",
            "m.toml:6: clients_max: must not be 0\n  hint: the smallest number is 1",
            "m.toml:7: stall_time: expected a duration, found the number 20\n  \
             hint: write a duration with its unit, like \"30s\"",
            "m.toml:8: output_high: \"KB\" is not a unit of size\n  \
             hint: a size is a number and B, KiB, MiB or GiB, like \"64KiB\"",
            "m.toml:9: pipe_depth_max: expected a number, found a text\n  \
             hint: write a whole number without quotes, like 20",
            "m.toml:11: unknown key \"colour\" in [limits]\n  hint: known are clients_max, \
             startup_bytes_max, login_time_max, request_bytes_max, whole_bytes_max, message_bytes_max, \
             node_message_bytes_max, output_high, reply_bytes_max, subscriber_bytes_max, input_high, \
             pipe_depth_max, upstream_output_high, queue_wait_max, hold_max, connect_time_max, \
             upstream_statements_max, \
             client_statements_max, texts_max, texts_bytes_max, upstream_idle_max, \
             identities_idle_max, trust_memory, stall_time",
            "m.toml:12: listen: is missing\n  hint: listen = [\"127.0.0.1:6432\"]",
            "m.toml:12: users: is missing, and auth = \"users\" needs it\n  \
             hint: users = \"/etc/manifold/userlist.txt\"",
            "m.toml:14: unknown key \"listne\" in [[service]]\n  hint: did you mean \"listen\"?",
            "m.toml:15: upstream: the URL names a user, but user and database are the \
             client's\n  hint: remove everything up to and including \"@\"",
            "m.toml:17: connections_max: must not be 0\n  hint: the smallest number is 1",
        ]
    );
}

#[test]
fn refuses_services_that_get_in_each_others_way() {
    let text = format!("{SERVICE}{SERVICE}");
    assert_eq!(
        errors_of(&text),
        [
            "m.toml:5: name: \"app\" is the name of another service\n  \
             hint: the other is at m.toml:1",
            "m.toml:7: listen: 127.0.0.1:6432 is listened on already\n  \
             hint: the other is at m.toml:3",
        ]
    );
}

#[test]
fn refuses_a_service_that_would_connect_to_itself() {
    assert_eq!(
        errors_of(&SERVICE.replace("5432", "6432")),
        ["m.toml:1: upstream: the service would connect to itself\n  hint: listen somewhere else"]
    );
}

#[test]
fn says_what_is_wrong_with_a_name_of_srv_records() {
    let with = |upstream: &str| errors_of(&SERVICE.replace("postgres://127.0.0.1:5432", upstream));
    assert_eq!(
        with("postgres+srv://_postgresql._tcp.db:5432"),
        [
            "m.toml:4: upstream: the URL names a port (\"5432\"), but the ports are in the SRV \
             records\n  hint: end the URL after the name"
        ]
    );
    assert_eq!(
        with("postgres+srv://10.0.0.1"),
        [
            "m.toml:4: upstream: \"10.0.0.1\" is not one name that can have SRV records\n  \
             hint: write \"postgres+srv://_postgresql._tcp.db.internal\", with nothing behind the \
             name"
        ]
    );
    assert_eq!(
        with("postgres+srv://_postgresql._tcp.db"),
        Vec::<String>::new()
    );
}

#[test]
fn refuses_what_is_no_table_where_a_table_belongs() {
    assert_eq!(
        errors_of("limits = 3\nservice = \"app\"\n"),
        [
            "m.toml:1: limits: expected a table, found the number 3\n  hint: write [limits]",
            "m.toml:2: service: expected a list of tables\n  hint: write [[service]]",
        ]
    );
    assert_eq!(
        errors_of("[service]\nname = \"app\"\n"),
        ["m.toml:1: service: expected a list of tables\n  hint: write [[service]]"]
    );
}

#[test]
fn refuses_addresses_and_names_that_cannot_be_used() {
    let text = SERVICE
        .replace("\"127.0.0.1:6432\"", "\"6432\", 7")
        .replace("\"app\"", "\"a\\tb\"");
    assert_eq!(
        errors_of(&text),
        [
            "m.toml:2: name: has a quote or a control character\n  \
             hint: the name stands in errors and log lines",
            "m.toml:3: listen: expected a text, found the number 7\n  hint: write it in quotes",
            "m.toml:3: listen: \"6432\" is not an address to listen on\n  hint: write an IP \
             address and a port, like \"127.0.0.1:6432\" (\"0.0.0.0:6432\" for every address), \
             or \"unix:/run/manifold/.s.PGSQL.6432\"",
        ]
    );
    let empty = SERVICE.replace("\"127.0.0.1:6432\"", "");
    assert_eq!(errors_of(&empty), ["m.toml:3: listen: is empty"]);
    let long = SERVICE.replace("app", &"a".repeat(64));
    assert_eq!(
        errors_of(&long),
        ["m.toml:2: name: is too long\n  hint: 63 bytes are the most"]
    );
}

#[test]
fn refuses_limits_that_contradict_each_other() {
    let text = format!(
        "[limits]\nrequest_bytes_max = \"2MiB\"\nmessage_bytes_max = \"1MiB\"\nwhole_bytes_max = \"1MiB\"\n\
         startup_bytes_max = \"8B\"\noutput_high = \"17MiB\"\npipe_depth_max = 70000\n{SERVICE}"
    );
    let messages: Vec<_> = errors_of(&text)
        .iter()
        .map(|p| p.lines().next().unwrap().to_owned())
        .collect();
    assert_eq!(
        messages,
        [
            "m.toml:1: request_bytes_max is above message_bytes_max",
            "m.toml:1: request_bytes_max is above whole_bytes_max",
            "m.toml:1: startup_bytes_max leaves no room for a user and a database",
            "m.toml:1: output_high is above reply_bytes_max",
            "m.toml:1: pipe_depth_max is too large",
        ]
    );
}

#[test]
fn refuses_numbers_when_they_are_out_of_range() {
    let text = format!("shards = 1025\n{SERVICE}connections_max = 4294967296\n");
    assert_eq!(
        errors_of(&text),
        [
            "m.toml:1: shards: is out of range\n  hint: 1024 are the most",
            "m.toml:6: connections_max: 4294967296 is out of range\n  \
             hint: a number goes from 1 to 4294967295",
        ]
    );
}

#[test]
fn says_the_line_when_the_syntax_is_wrong() {
    let errors = errors_of("shards = 1\ndriver = \n[limits\n");
    assert!(
        errors.iter().any(|error| error.starts_with("m.toml:2: ")),
        "{errors:?}"
    );
    assert!(
        errors.iter().any(|error| error.starts_with("m.toml:3: ")),
        "{errors:?}"
    );
}

#[test]
fn refuses_an_empty_file() {
    assert_eq!(
        errors_of(""),
        [
            "m.toml: no service is configured\n  hint: add [[service]] with name, listen and \
             upstream"
        ]
    );
}

#[test]
fn refuses_a_users_file_that_cannot_be_read() {
    let text = format!("{SERVICE}auth = \"users\"\nusers = \"no/such/file\"\n");
    assert_eq!(
        errors_of(&text),
        [
            "m.toml:6: users: no/such/file cannot be read: No such file or directory \
             (os error 2)\n  hint: the file must exist and be readable by the user that the \
             proxy runs as"
        ]
    );
}

#[test]
fn warns_when_a_users_file_is_given_in_vain() {
    let text = format!("{SERVICE}auth = \"trust\"\nusers = \"no/such/file\"\n");
    assert_eq!(
        problems_of(&text),
        [
            "m.toml:6: warning: users: is not used, because auth is not \"users\"\n  \
          hint: auth = \"users\""
        ]
    );
}

#[test]
fn makes_services_from_options_alone() {
    let options = Options {
        postgres: vec!["127.0.0.1:1=db:2".into(), "127.0.0.1:3=db:2".into()],
        shards: Some(2),
        connections_max: Some(9),
        driver: Some(Wanted::Epoll),
        log: Some(Log::Info),
        ..Options::default()
    };
    let (config, _) = options.load();
    let config = config.unwrap();
    assert_eq!(
        (config.shards, config.driver, config.log),
        (2, Wanted::Epoll, Log::Info)
    );
    let names: Vec<_> = config
        .services
        .iter()
        .map(|service| &*service.name)
        .collect();
    assert_eq!(names, ["db:2", "db:2#2"]);
    assert!(
        config
            .services
            .iter()
            .all(|service| service.connections_max == 9)
    );
    assert_eq!(config.services[0].upstream.whereabouts.to_string(), "db:2");
}

#[test]
fn names_the_option_when_a_service_of_the_command_line_is_wrong() {
    let postgres = ["db:2", "6432=db", "127.0.0.1:1=mysql://db"]
        .map(String::from)
        .to_vec();
    let (config, problems) = Options {
        postgres,
        ..Options::default()
    }
    .load();
    assert!(config.is_none());
    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3);
    assert!(problems[0].starts_with("--postgres 127.0.0.1:1=mysql://db: \"mysql\" is not a"));
    assert!(problems[1].starts_with("--postgres 6432=db: \"6432\" is not an address"));
    assert_eq!(
        problems[2],
        "--postgres db:2: there is no \"=\"\n  hint: --postgres 127.0.0.1:6432=db.internal:5432"
    );
}

#[test]
fn says_so_when_the_file_is_missing() {
    let options = Options {
        config: Some("no/such.toml".into()),
        ..Options::default()
    };
    let (config, problems) = options.load();
    assert!(config.is_none());
    assert_eq!(
        problems[0].to_string(),
        "no/such.toml: cannot be read: No such file or directory (os error 2)\n  \
         hint: name a file that exists: --config manifold.toml"
    );
}
