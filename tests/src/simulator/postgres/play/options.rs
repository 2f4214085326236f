//! What a run with PostgreSQL is made of, drawn from its seed: swarm testing.
//!
//! Each run leaves out most faults and features, so that what is left meets in ways that a mixture
//! of everything never would. Invariant: the options depend on the seed only.

use core::time::Duration;

use manifold_core::limits::Limits;
use manifold_core::time::Instant;

use super::logins::Logins;
use crate::simulator::client::{Client, Excuses, Habits};
use crate::simulator::postgres::Service;
use crate::simulator::prng::Prng;
use crate::simulator::script::{Script, Taste};
use crate::simulator::world::course::{Waits, draw_faults, draw_temper, draw_weather};
use crate::simulator::world::{Between, Course, Faults};

/// What only PostgreSQL has.
#[derive(Clone, Debug)]
pub struct Options {
    /// What clients do.
    pub taste: Taste,
    /// The node.
    pub service: Service,
    /// Who may log in, and how.
    pub logins: Logins,
    /// In a thousand classifications, how many doubt without reason.
    pub doubts: u32,
}

impl Options {
    /// The options of a seed.
    pub fn draw(prng: &mut Prng, between: Between) -> (Course, Self) {
        let is_clean = prng.chance(400);
        let faults = if is_clean {
            Faults::default()
        } else {
            draw_faults(prng)
        };
        let (limits, are_limits_tiny) = draw_limits(prng);
        let clients = *prng.pick(&[1, 2, 3, 5, 8, 16]);
        let logins = Logins::draw(prng, between);
        let clients_max = clients * *prng.pick(&[1, 1, 2, 4]);
        let episodes = *prng.pick(&[2, 5, 10]);
        let arrival = Duration::from_millis(*prng.pick(&[0, 5, 100]));
        let taste = Taste {
            hides: !logins.is_fragile(),
            ..Taste::draw(prng)
        };
        let weather = draw_weather(prng);
        let temper = draw_temper(prng);
        let service = draw_service(prng);
        let connections_max = *prng.pick(&[1, 2, 3, 4, 8, 16]);
        let doubts = *prng.pick(&[0, 0, 20, 300]);
        let course = Course {
            between,
            clients,
            clients_max,
            episodes,
            arrival,
            faults,
            weather,
            patience: Waits::of_drivers(),
            temper,
            limits,
            are_limits_tiny,
            connections_max,
            odd_clients: *prng.pick(&[0, 200, 500]),
            safety: Duration::from_secs(20),
            liveness: Duration::from_secs(600),
        };
        let options = Self {
            taste,
            service,
            logins,
            doubts,
        };
        (course, options)
    }

    /// What a client's reply may differ in.
    fn excuses(&self, course: &Course) -> Excuses {
        let mut excuses = Excuses::default();
        if course.faults.lose_connections() {
            let lost = ["08000", "08001", "08003", "08004", "08006", "08007"];
            excuses.codes.extend(lost);
            excuses.codes.extend(["57P01", "57P02", "57P03", "53300"]);
            excuses.closes = true;
        }
        if self.logins.is_fragile() {
            excuses.codes.insert("08006");
            excuses.closes = true;
        }
        if course.are_limits_tiny {
            excuses.codes.extend(["53300", "53400", "54000", "57014"]);
            excuses.closes = true;
        }
        excuses
    }

    /// A client that has not connected yet and comes after `from`.
    pub fn new_client(
        &self,
        course: &Course,
        number: u32,
        from: Instant,
        prng: &mut Prng,
    ) -> Client {
        let name = format!("c{number}");
        let user = *prng.pick(&["app", "app", "other"]);
        let mut pairs = vec![
            ("user".to_owned(), user.to_owned()),
            ("database".into(), "main".into()),
        ];
        let mut add = |name: &str, values: &[&str]| {
            if prng.chance(150) {
                pairs.push((name.to_owned(), (*prng.pick(values)).to_owned()));
            }
        };
        add("application_name", &["psql", "app"]);
        add("TimeZone", &["Europe/Paris", "utc"]);
        add(
            "options",
            &["-c work_mem=8MB", "-c app.tenant=9 -c datestyle=SQL"],
        );
        let habits = draw_habits(prng, course.odd_clients);
        let script = Script::new(
            name.clone(),
            self.taste.clone(),
            course.episodes,
            prng.fork(),
        );
        let starts_at = course.arrival_from(from, prng);
        let stream = prng.fork();
        let mut client = Client::new(
            name,
            pairs,
            &self.logins.faced,
            habits,
            script,
            stream,
            starts_at,
        );
        client.excuses = self.excuses(course);
        client
    }
}

fn draw_service(prng: &mut Prng) -> Service {
    let shortest = Duration::from_micros(*prng.pick(&[1, 50]));
    Service {
        shortest,
        longest: shortest * *prng.pick(&[1, 10, 200]),
    }
}

/// Half of the runs have the default bounds; in the others some are next to nothing.
fn draw_limits(prng: &mut Prng) -> (Limits, bool) {
    let mut limits = Limits::default();
    if prng.chance(500) {
        return (limits, false);
    }
    let mut tiny = || prng.chance(250);
    let shrinks = [tiny(), tiny(), tiny(), tiny(), tiny(), tiny()];
    if shrinks[0] {
        limits.pipe_depth_max = 2;
    }
    if shrinks[1] {
        limits.output_high = 300;
        limits.input_high = 300;
    }
    if shrinks[2] {
        limits.upstream_output_high = 500;
    }
    if shrinks[3] {
        limits.upstream_statements_max = 2;
    }
    if shrinks[4] {
        limits.texts_max = 3;
    }
    if shrinks[5] {
        limits.upstream_idle_max = Duration::from_millis(50);
        limits.identities_idle_max = 0;
        limits.stall_time = Duration::from_millis(1);
    }
    let is_told = prng.chance(200);
    if is_told {
        limits.queue_wait_max = Duration::from_millis(20);
        limits.clients_max = 4;
    }
    (limits, is_told)
}

/// How one client behaves.
fn draw_habits(prng: &mut Prng, odd_clients: u32) -> Habits {
    let mut odd = || prng.chance(odd_clients);
    let [
        reads_slowly,
        writes_slowly,
        leaves,
        cancels,
        garbles,
        asks_tls,
        half_closes,
        forgets,
    ] = [odd(), odd(), odd(), odd(), odd(), odd(), odd(), odd()];
    Habits {
        depth: *prng.pick(&[1, 1, 2, 5, 20]),
        pause_max: Duration::from_micros(*prng.pick(&[0, 10, 1_000, 50_000])),
        read_max: if reads_slowly { 10 } else { 65_536 },
        read_pause_max: Duration::from_millis(if reads_slowly { 5 } else { 0 }),
        write_max: if writes_slowly { 1 } else { 65_536 },
        write_pause_max: Duration::from_millis(if writes_slowly { 2 } else { 0 }),
        asks_tls,
        leaves: if leaves { *prng.pick(&[10, 100]) } else { 0 },
        cancels: if cancels { 200 } else { 0 },
        garbles: if garbles { 50 } else { 0 },
        half_closes,
        forgets_password: forgets && prng.chance(200),
    }
}
