//! Scenes: acts that belong together, because the state of a session lasts from one to the next.
//!
//! Each scene is one way in which sessions use a node, or misuse it. Invariant: at the end of a scene
//! whatever is said to a session is answered, unless the session has ended.

use super::plan::{Planner, Sending, What, bytes_of};

/// Plans what a session does.
type Scene = fn(&mut Planner, usize);

impl Planner {
    /// Plans a scene.
    pub fn scene(&mut self) {
        let who = self.somebody();
        let scenes: [(u32, Scene); 19] = [
            (30, Self::batch),
            (8, Self::write_down),
            (8, Self::transaction_at_once),
            (7, Self::transaction_in_steps),
            (6, Self::watch),
            (8, Self::block_and_push),
            (3, Self::block_and_wait),
            (3, Self::read_stream),
            (8, Self::listen),
            (6, Self::become_somebody),
            (4, Self::be_silent),
            (5, Self::speak_badly),
            (4, Self::type_lines),
            (3, Self::expire),
            (5, Self::leave),
            (3, Self::read_late),
            (2, Self::scan),
            (4, Self::identify),
            (3, Self::track),
        ];
        let weights = scenes.map(|(weight, _)| weight);
        let scene = scenes[self.pen.prng.weighted(&weights)].1;
        scene(self, who);
    }

    /// Unique words, each to be found once where it was acknowledged.
    fn write_down(&mut self, who: usize) {
        let count = self.pen.prng.size(1, 6);
        self.send_line(who, "SELECT 0");
        let mut sending = Sending::default();
        for place in 0..count {
            if self.pen.prng.chance(300) {
                sending.commands.push(self.pen.command("GET {s}", true));
                continue;
            }
            let word = self.pen.unique();
            let line = format!("RPUSH {{pre}}ledger {word}");
            sending.commands.push(self.pen.command(&line, false));
            sending.written.push((place, word));
        }
        sending.pieces = self.cut(bytes_of(&sending.commands));
        self.act(who, What::Send(sending));
    }

    fn transaction_at_once(&mut self, who: usize) {
        let mut commands = vec![self.pen.command("MULTI", true)];
        for _ in 0..self.pen.prng.size(0, 6) {
            commands.push(self.for_transaction());
        }
        let end = match self.pen.prng.below(10) {
            0 => "DISCARD",
            1 => "EXEC extra",
            _ => "EXEC",
        };
        commands.push(self.pen.command(end, false));
        if end == "EXEC extra" {
            commands.push(self.pen.command("DISCARD", false));
        }
        self.send(who, commands);
    }

    /// A command for between MULTI and EXEC. None whose reply has no order, as it is within another.
    fn for_transaction(&mut self) -> super::catalogue::Command {
        match self.pen.prng.below(20) {
            0 => self.pen.command("SELECT 1", false),
            1 => self.pen.command("BLPOP {l} 0", false),
            2 => self.pen.command("MULTI", false),
            3 => self.pen.command("WATCH {k}", false),
            4 => self.pen.command("CLIENT SETNAME inside", false),
            5 => self.pen.command("HELLO 3", false),
            _ => loop {
                let command = self.pen.draw_exact();
                let name = command.words[0].to_ascii_uppercase();
                let is_own_end = matches!(
                    &*name,
                    b"EXEC" | b"DISCARD" | b"SUBSCRIBE" | b"RESET" | b"AUTH" | b"READONLY"
                );
                // In a transaction these are the node's to answer, and speak of the proxy's
                // connection there.
                let is_own_end = is_own_end || name == b"CLIENT";
                if !is_own_end {
                    break command;
                }
            },
        }
    }

    fn transaction_in_steps(&mut self, who: usize) {
        self.holds = true;
        let other = self.another(who);
        self.send_line(who, "MULTI");
        for _ in 0..self.pen.prng.size(1, 4) {
            let command = self.for_transaction();
            self.send(who, vec![command]);
            if self.pen.prng.chance(300) {
                self.batch(other);
            }
        }
        match self.pen.prng.below(8) {
            0 => self.send_line(who, "DISCARD"),
            1 => self.send_line(who, "RESET"),
            2 => self.act(who, What::Vanish(b"*1\r\n$4\r\nEX".to_vec())),
            3 => self.send_together(who, &["EXEC", "GET {s}", "MULTI", "INCR {s}", "EXEC"]),
            _ => self.send_line(who, "EXEC"),
        }
    }

    fn watch(&mut self, who: usize) {
        self.holds = true;
        let other = self.another(who);
        self.send_line(who, "WATCH {pre}s0 {pre}l0");
        match self.pen.prng.below(5) {
            0 => self.send_line(other, "APPEND {pre}s0 x"),
            1 => self.send_line(other, "RPUSH {pre}l0 x"),
            2 => self.send_line(other, "GET {pre}s0"),
            3 => self.send_line(who, "SET {pre}s0 own"),
            _ => {}
        }
        match self.pen.prng.below(6) {
            0 => self.send_line(who, "UNWATCH"),
            1 => self.act(who, What::Vanish(Vec::new())),
            2 => self.send_line(who, "RESET"),
            _ => {}
        }
        let get = self.pen.prng.chance(500);
        if get {
            self.send_line(who, "GET {pre}s0");
        }
        self.send_together(who, &["MULTI", "SET {pre}s0 {i}", "GET {pre}s0", "EXEC"]);
    }

    fn block_and_push(&mut self, who: usize) {
        self.holds = true;
        let other = self.another(who);
        let (block, push) = *self.pen.prng.pick(&[
            ("BLPOP {pre}l1 0", "RPUSH {pre}l1 {v} {i}"),
            ("BRPOP {pre}l1 {pre}l2 30", "LPUSH {pre}l2 {v}"),
            ("BLMOVE {pre}l1 {pre}l2 LEFT RIGHT 0", "RPUSH {pre}l1 {v}"),
            ("BRPOPLPUSH {pre}l1 {pre}l2 30", "RPUSH {pre}l1 {v}"),
            (
                "BLMPOP 0 2 {pre}l1 {pre}l2 LEFT COUNT 2",
                "RPUSH {pre}l2 a b c",
            ),
            ("BZPOPMIN {pre}z1 0", "ZADD {pre}z1 {i} {m}"),
            ("BZMPOP 0 1 {pre}z1 MAX", "ZADD {pre}z1 {i} {m} {i} {m}"),
        ]);
        self.send_line(other, "DEL {pre}l1 {pre}l2 {pre}z1");
        self.block(who, block);
        let has_more = self.pen.prng.chance(200);
        if has_more {
            // It waits behind what blocks.
            let count = self.pen.prng.size(1, 5);
            let commands = (0..count).map(|_| self.pen.draw_exact()).collect();
            self.send(who, commands);
        }
        match self.pen.prng.below(10) {
            0 => self.act(who, What::Vanish(Vec::new())),
            1 => self.send_line(other, "SET {pre}l1 wrong"),
            // Not where something waits behind what blocks: nobody says in which order the two come.
            2 if !has_more => self.batch(other),
            _ => {}
        }
        self.send_line(other, push);
        self.act(who, What::Vanish(Vec::new()));
    }

    fn block_and_wait(&mut self, who: usize) {
        self.holds = true;
        let other = self.another(who);
        self.send_line(other, "DEL {pre}l1 {pre}z1");
        let block = *self.pen.prng.pick(&[
            "BLPOP {pre}l1 0.05",
            "BRPOP {pre}l1 -1",
            "BLMOVE {pre}l1 {pre}l2 LEFT LEFT 0.02",
            "BZPOPMAX {pre}z1 0.05",
            "BLPOP {pre}l1 nonsense",
            "XREAD BLOCK 30 STREAMS {pre}x1 $",
        ]);
        self.send_line(who, block);
        self.act(who, What::Pause(150));
        self.batch(who);
    }

    fn read_stream(&mut self, who: usize) {
        self.holds = true;
        let other = self.another(who);
        self.send_line(other, "DEL {pre}x1");
        if self.pen.prng.chance(500) {
            self.block(who, "XREAD BLOCK 0 STREAMS {pre}x1 $");
        } else {
            self.send_line(other, "XGROUP CREATE {pre}x1 grp $ MKSTREAM");
            self.block(who, "XREADGROUP GROUP grp me BLOCK 0 STREAMS {pre}x1 >");
        }
        if self.pen.prng.chance(200) {
            self.send_line(other, "DEL {pre}x1");
        }
        self.send_line(other, "XADD {pre}x1 {id} f {v}");
        self.act(who, What::Vanish(Vec::new()));
    }

    fn listen(&mut self, who: usize) {
        let other = self.another(who);
        let begin = *self.pen.prng.pick(&[
            "SUBSCRIBE {ch} {ch}",
            // Never two that fit the same channel: their order is that of a hash table.
            "PSUBSCRIBE {pre}*",
            "PSUBSCRIBE {pre}c?0 {pre}c?1",
            "SSUBSCRIBE {ch}",
            "SUBSCRIBE {ch}",
        ]);
        self.send_together(who, &[begin]);
        for _ in 0..self.pen.prng.size(1, 5) {
            match self.pen.prng.below(9) {
                0 | 1 => self.send_line(other, "PUBLISH {ch} {v}"),
                2 => self.send_line(other, "SPUBLISH {ch} {v}"),
                3 => self.send_line(who, "PUBLISH {ch} {v}"),
                4 => self.send_line(other, "PUBSUB NUMSUB {ch} {ch}"),
                5 => self.send_together(who, &["SUBSCRIBE {ch}", "PING {v}", "PING"]),
                6 => self.batch(who),
                7 => self.send_together(who, &["UNSUBSCRIBE {ch}", "PUNSUBSCRIBE none"]),
                _ => self.send_line(other, "PUBSUB SHARDNUMSUB {ch}"),
            }
        }
        match self.pen.prng.below(5) {
            0 => self.act(who, What::Vanish(Vec::new())),
            1 => self.send_line(who, "RESET"),
            2 => self.act(who, What::Finish(b"PING\r\n".to_vec())),
            _ => {
                // One by one: without names, the order is that of a hash table.
                self.send_together(who, &["UNSUBSCRIBE {pre}ch0 {pre}ch1 {pre}ch2"]);
                self.send_together(who, &["PUNSUBSCRIBE {pre}* {pre}c?0"]);
                self.send_together(who, &["SUNSUBSCRIBE {pre}ch0 {pre}ch1 {pre}ch2"]);
                self.send_together(who, &["UNSUBSCRIBE", "PUNSUBSCRIBE", "ECHO {v}"]);
            }
        }
    }

    fn become_somebody(&mut self, who: usize) {
        let line = *self.pen.prng.pick(&[
            "AUTH alice apw",
            "AUTH reader rpw",
            "AUTH quiet qpw",
            "AUTH keyed kpw",
            "AUTH off opw",
            "HELLO 3 AUTH alice apw SETNAME me",
            "HELLO 2 AUTH reader rpw",
            "HELLO 3 SETNAME me AUTH alice apw",
            "HELLO 3 SETNAME me AUTH alice NOPE",
            "HELLO 2 SETNAME x AUTH quiet qpw",
            "HELLO 3",
            "HELLO 2",
            "HELLO",
            "SELECT 1",
            "SELECT 2",
            "SELECT 0",
            "RESET",
        ]);
        self.send_line(who, line);
        for _ in 0..self.pen.prng.size(1, 4) {
            self.batch(who);
        }
        match self.pen.prng.below(4) {
            0 => self.send_together(who, &["SUBSCRIBE {ch}", "UNSUBSCRIBE {ch}", "PING"]),
            1 => self.act(who, What::Identify),
            2 => self.send_together(who, &["CLIENT SETNAME a", "CLIENT GETNAME"]),
            _ => {}
        }
        if self.mood.is_locked && self.pen.prng.chance(800) {
            self.send_line(who, "AUTH sesame");
        } else if self.pen.prng.chance(600) {
            self.send_line(who, "RESET");
            if self.mood.is_locked {
                self.send_line(who, "AUTH default sesame");
            }
        }
    }

    fn be_silent(&mut self, who: usize) {
        let lines: &[&str] = match self.pen.prng.below(4) {
            0 => &[
                "CLIENT REPLY OFF",
                "SET {s} {v}",
                "GET {s}",
                "CLIENT REPLY ON",
                "GET {s}",
            ],
            1 => &["CLIENT REPLY SKIP", "INCR {s}", "GET {s}"],
            2 => &[
                "CLIENT REPLY OFF",
                "NONSENSE",
                "MULTI",
                "INCR {s}",
                "EXEC",
                "CLIENT REPLY ON",
            ],
            _ => &[
                "CLIENT REPLY OFF",
                "CLIENT REPLY SKIP",
                "INCR {s}",
                "CLIENT REPLY ON",
                "PING",
            ],
        };
        self.send_together(who, lines);
    }

    /// What is no request. The session ends, or nothing happens.
    fn speak_badly(&mut self, who: usize) {
        let mut bytes = b"*1\r\n$4\r\nPING\r\n".to_vec();
        let long = |first: &[u8]| [first, &vec![b'1'; 400_000]].concat();
        let bad: Vec<u8> = match self.pen.prng.below(16) {
            0 => b"*a\r\n".to_vec(),
            1 => b"*2147483648\r\n".to_vec(),
            2 => b"*1\r\n$-1\r\n".to_vec(),
            3 => b"*1\r\n$99999999999\r\n".to_vec(),
            4 => b"*1\r\nPING\r\n".to_vec(),
            5 => b"*2\r\n$4\r\nPING\r\n:1\r\n".to_vec(),
            6 => b"*0\r\n*-1\r\n\r\n   \r\n".to_vec(),
            7 => b"PING \"unbalanced\r\n".to_vec(),
            8 => b"PING 'a'b\r\n".to_vec(),
            9 => long(b"*"),
            10 => long(b"PING "),
            11 => long(b"*1\r\n$"),
            12 => b"*1\r\n$4\r\nPINGxx".to_vec(),
            13 => b"*1\r\x00$4\r\nPING\r\n".to_vec(),
            14 => [b"*1\r\n".to_vec(), self.pen.bytes(1, 4), b"\r\n".to_vec()].concat(),
            _ => {
                // Alone: what was asked before may be answered or not, as the node finds time.
                bytes.clear();
                b"POST / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()
            }
        };
        // A line that is too long has no end, so that it does not matter how much is read at a time.
        let is_long = bad.len() > 100_000;
        bytes.extend(bad);
        if !is_long {
            bytes.extend_from_slice(b"*1\r\n$4\r\nPING\r\n");
        }
        self.send_bytes(who, bytes);
        self.act(who, What::Vanish(Vec::new()));
    }

    /// Inline commands.
    fn type_lines(&mut self, who: usize) {
        let mut bytes = Vec::new();
        for _ in 0..self.pen.prng.size(1, 4) {
            let line = *self.pen.prng.pick(&[
                "SET {s} {i}\r\n",
                "GET {s}\n",
                "  get   {s}  \r\n",
                "ECHO 'a b\\'c'\r\n",
                "ECHO \"\\x41\\n\\\"q\"\r\n",
                "\r\n",
                "ECHO a\tb\r\n",
                "NONSENSE here\r\n",
                "LPUSH {l} 'x' \"\"\r\n",
            ]);
            // The spaces are part of the line.
            let line = line.replace(' ', "{sp}");
            bytes.extend(self.pen.fill(&line).concat());
        }
        self.send_bytes(who, bytes);
    }

    fn expire(&mut self, who: usize) {
        self.send_together(
            who,
            &["SET {pre}s2 soon PX 300", "EXISTS {pre}s2 {pre}none"],
        );
        self.act(who, What::Pause(600));
        self.send_together(who, &["GET {pre}s2", "EXISTS {pre}s2", "TYPE {pre}s2"]);
    }

    fn leave(&mut self, who: usize) {
        match self.pen.prng.below(4) {
            0 => self.send_together(who, &["SET {s} {v}", "QUIT", "SET {s} after"]),
            1 => {
                let mut commands = Vec::new();
                for _ in 0..self.pen.prng.size(1, 8) {
                    commands.push(self.pen.draw_exact());
                }
                self.act(who, What::Finish(bytes_of(&commands)));
            }
            2 => {
                let part = b"*3\r\n$3\r\nSET\r\n$2\r\nk".to_vec();
                self.act(who, What::Vanish(part));
            }
            _ => self.act(
                who,
                What::Vanish(b"*2\r\n$3\r\nGET\r\n$100000\r\nabc".to_vec()),
            ),
        }
    }

    /// Big replies, and somebody who lets them wait.
    fn read_late(&mut self, who: usize) {
        self.send_line(who, "SETRANGE {pre}b2 {big} x");
        let count = self.pen.prng.size(2, 12);
        let commands: Vec<_> = (0..count)
            .map(|_| self.pen.command("GETRANGE {pre}b2 0 -1", true))
            .collect();
        let sending = Sending {
            pieces: vec![bytes_of(&commands)],
            commands,
            deaf: self.pen.prng.between(0, 250),
            ..Sending::default()
        };
        self.act(who, What::Send(sending));
        self.send_line(who, "DEL {pre}b2");
    }

    fn scan(&mut self, who: usize) {
        let words = match self.pen.prng.below(3) {
            0 => self.pen.fill("SCAN 0 MATCH {pre}* COUNT 100"),
            1 => self.pen.fill("SSCAN {pre}S0 0 COUNT 2"),
            _ => self.pen.fill("HSCAN {pre}h0 0"),
        };
        self.act(who, What::Scan(words));
    }

    fn identify(&mut self, who: usize) {
        self.act(who, What::Identify);
    }

    fn track(&mut self, who: usize) {
        self.holds = true;
        let other = self.another(who);
        // Refused by a node that is alone, and nothing of it stays.
        self.send_lines(who, &["READONLY", "ASKING"]);
        let lines: &[&str] = match self.pen.prng.below(3) {
            0 => &["HELLO 3", "CLIENT TRACKING ON", "GET {pre}s0"],
            1 => &["HELLO 3", "CLIENT TRACKING ON BCAST PREFIX {pre}s"],
            _ => &[
                "CLIENT TRACKING ON OPTIN",
                "CLIENT CACHING YES",
                "GET {pre}s0",
            ],
        };
        self.send_lines(who, lines);
        self.send_line(other, "SET {pre}s0 {v}");
        self.send_line(other, "SET {pre}s1 {v}");
        self.send_line(who, "CLIENT TRACKINGINFO");
        self.send_line(who, "CLIENT TRACKING OFF");
        self.send_line(who, "RESET");
        if self.mood.is_locked {
            self.send_line(who, "AUTH sesame");
        }
    }
}
