//! Commands to draw from, one a line, and how their gaps are filled.
//!
//! A line is marks, a bar, and words. Marks: `r` reads data and nothing else, as the node says, `w`
//! for all others, and for how the reply is
//! compared `~` without order, `%` without order by pairs, `t` near, `k` by kind. A gap in braces is
//! a key by its kind's letter (`k`: any), or as `fill` says. Invariant: what two nodes would answer
//! differently is marked so, or is not here.

use crate::simulator::prng::Prng;

use super::compare::Compare;
use super::keys::{KEYS, KINDS};

/// A command to be sent.
#[derive(Clone, Debug)]
pub(super) struct Command {
    /// Its words.
    pub words: Vec<Vec<u8>>,
    /// It changes nothing.
    pub is_read: bool,
    /// How its reply is compared.
    pub compare: Compare,
}

/// Commands of every class that need no state.
const LINES: &str = "
r|GET {s}
r|GET {s}
r|GET {s}
w|SET {s} {v}
w|SET {s} {v}
w|SET {s} {v} GET
w|SET {s} {v} NX
w|SET {s} {v} XX KEEPTTL
w|SET {s} {v} EX 1000
w|SET {s} {i}
w|SET {s} {v} EX 0
w|SET {s} {v} PX abc
w|SET {s} {v} NX XX
w|SETNX {s} {v}
w|SETEX {s} 1000 {v}
w|PSETEX {s} 0 {v}
w|GETSET {s} {v}
w|GETDEL {s}
w|GETEX {s} PERSIST
w|GETEX {s} EX 500
r|STRLEN {s}
w|APPEND {s} {v}
r|GETRANGE {s} {ix} {ix}
r|SUBSTR {s} 0 3
w|SETRANGE {s} {c} {v}
w|INCR {s}
w|DECR {s}
w|INCRBY {s} {i}
w|DECRBY {s} {i}
w|INCRBYFLOAT {s} {f}
r|MGET {s} {s} {k}
w|MSET {s} {v} {s} {v}
w|MSETNX {s} {v} {s} {v}
r|LCS {s} {s}
r|LCS {s} {s} LEN
r|LCS {s} {s} IDX WITHMATCHLEN
w|LPUSH {l} {v} {i}
w|RPUSH {l} {v}
w|RPUSH {l} {i} {i} {i}
w|LPUSHX {l} {v}
w|RPUSHX {l} {v}
w|LPOP {l}
w|RPOP {l} {c}
w|LPOP {l} -1
r|LLEN {l}
r|LRANGE {l} 0 -1
r|LRANGE {l} {ix} {ix}
r|LINDEX {l} {ix}
w|LSET {l} {ix} {v}
w|LINSERT {l} BEFORE {i} {v}
w|LREM {l} {c} {i}
w|LTRIM {l} 0 40
w|LMOVE {l} {l} LEFT RIGHT
w|RPOPLPUSH {l} {l}
w|LMPOP 2 {l} {l} LEFT COUNT 2
w|LMPOP 0 {l} LEFT
r|LPOS {l} {i} RANK -1 COUNT 0
w|HSET {h} {d} {v}
w|HSET {h} {d} {i} {d} {v}
w|HSET {h} {d}
w|HMSET {h} {d} {v}
w|HSETNX {h} {d} {v}
r|HGET {h} {d}
r|HMGET {h} {d} {d} none
r|HGETALL {h}
r|HKEYS {h}
r|HVALS {h}
r|HLEN {h}
r|HEXISTS {h} {d}
r|HSTRLEN {h} {d}
w|HDEL {h} {d} {d}
w|HINCRBY {h} {d} {i}
w|HINCRBYFLOAT {h} {d} {f}
r|HSCAN {h} 0
w|SADD {S} {m} {m}
w|SADD {S} {i}
w|SREM {S} {m}
r|SCARD {S}
r|SISMEMBER {S} {m}
r|SMISMEMBER {S} {m} {m}
r~|SMEMBERS {S}
r~|SUNION {S} {S}
r~|SINTER {S} {S}
r~|SDIFF {S} {S}
r|SINTERCARD 2 {S} {S} LIMIT 2
w|SUNIONSTORE {S} {S} {S}
w|SINTERSTORE {S} {S} {S}
w|SDIFFSTORE {S} {S} {S}
w|SMOVE {S} {S} {m}
w~|SPOP {S} 100000
w|ZADD {z} {i} {m}
w|ZADD {z} {f} {m} {i} {m}
w|ZADD {z} NX CH {i} {m}
w|ZADD {z} GT LT {i} {m}
w|ZADD {z} INCR {i} {m}
w|ZADD {z} nan {m}
w|ZINCRBY {z} {f} {m}
w|ZREM {z} {m}
r|ZSCORE {z} {m}
r|ZMSCORE {z} {m} {m}
r|ZRANK {z} {m}
r|ZREVRANK {z} {m}
r|ZCARD {z}
r|ZCOUNT {z} -inf ({i}
r|ZLEXCOUNT {z} - +
r|ZRANGE {z} 0 -1 WITHSCORES
r|ZRANGE {z} -inf +inf BYSCORE LIMIT 0 3
r|ZRANGE {z} [m ( BYLEX
r|ZREVRANGE {z} {ix} {ix}
r|ZRANGEBYSCORE {z} -5 5 WITHSCORES
r|ZRANGEBYLEX {z} - +
w|ZREMRANGEBYRANK {z} 20 -1
w|ZREMRANGEBYSCORE {z} {i} {i}
w|ZPOPMIN {z}
w|ZPOPMAX {z} 2
w|ZMPOP 2 {z} {z} MAX COUNT 2
w|ZRANGESTORE {z} {z} 0 2
w|ZUNIONSTORE {z} 2 {z} {z} WEIGHTS 2 3
w|ZINTERSTORE {z} 2 {z} {z} AGGREGATE MAX
r|ZUNION 2 {z} {z} WITHSCORES
r|ZINTER 2 {z} {z}
r|ZDIFF 2 {z} {z} WITHSCORES
r|ZINTERCARD 2 {z} {z}
w|SETBIT {b} {b#} 1
r|GETBIT {b} {b#}
r|BITCOUNT {b}
r|BITCOUNT {b} 0 9 BIT
r|BITPOS {b} 1
w|BITFIELD {b} INCRBY u8 {c} 200 OVERFLOW SAT GET i5 0
r|BITFIELD_RO {b} GET u4 0
w|BITOP XOR {b} {b} {b}
w|BITOP NOT {b} {b}
w|PFADD {p} {m} {v}
r|PFCOUNT {p} {p}
w|PFMERGE {p} {p}
w|GEOADD {g} 13.361389 38.115556 {m} 15.087269 37.502669 {m}
w|GEOADD {g} 200 100 {m}
r|GEODIST {g} {m} {m} km
r|GEOHASH {g} {m}
r|GEOPOS {g} {m} none
r|GEOSEARCH {g} FROMLONLAT 15 37 BYRADIUS 300 km ASC WITHDIST
w|GEOSEARCHSTORE {g} {g} FROMLONLAT 15 37 BYBOX 400 400 km ASC
w|XADD {x} {id} f {v}
w|XADD {x} {id} f {v} g {i}
w|XADD {x} 1-1 f {v}
w|XADD {x} NOMKSTREAM MAXLEN 30 {id} f {v}
r|XLEN {x}
r|XRANGE {x} - +
r|XREVRANGE {x} + - COUNT 2
r|XREAD COUNT 2 STREAMS {x} {x} 0 0-0
r|XREAD STREAMS {x} $
w|XDEL {x} {old}
w|XTRIM {x} MAXLEN 25
w|XGROUP CREATE {x} grp 0 MKSTREAM
w|XGROUP CREATE {x} grp $
w|XGROUP DESTROY {x} grp
w|XGROUP CREATECONSUMER {x} grp one
w|XREADGROUP GROUP grp one COUNT 2 STREAMS {x} >
w|XREADGROUP GROUP grp two NOACK STREAMS {x} 0
w|XACK {x} grp {old}
r|XPENDING {x} grp
rk|XPENDING {x} grp - + 10
w|XAUTOCLAIM {x} grp two 0 0 JUSTID
w|XCLAIM {x} grp two 0 {old} JUSTID
r|XINFO GROUPS {x}
r|XINFO STREAM {x}
w|DEL {k} {k}
w|UNLINK {k}
r|EXISTS {k} {k} {k}
r|TYPE {k}
r|TOUCH {k} {k}
w|EXPIRE {k} 1000
w|PEXPIREAT {k} 4102444800001 GT
w|PEXPIREAT {k} 4102444800000
w|EXPIREAT {k} 4102444800 NX
w|EXPIRE {k} -1
w|PERSIST {k}
r|EXPIRETIME {s} extra
rt|TTL {k}
rt|PTTL {k}
rt|EXPIRETIME {k}
w|RENAME {s} {s}
w|RENAMENX {l} {l}
w|RENAME {p}none {p}none
w|COPY {s} {s} REPLACE
w|COPY {z} {z}
w|COPY {h} {h} DB 1
w|MOVE {k} 1
w|MOVE {k} 99
r|OBJECT ENCODING {k}
r|OBJECT REFCOUNT {s}
r|OBJECT FREQ {s}
w|OBJECT NONSENSE {s}
w|OBJECT HELP
rk|DUMP {s}
w|RESTORE {s} 0 nonsense
w|SORT {l} ALPHA DESC
w|SORT {l} LIMIT 0 2
r|SORT_RO {l} ALPHA GET #
w|SORT {l} ALPHA STORE {l}
r~|KEYS {pre}*
r|KEYS {pre}none*
r|PING
r|PING {v}
r|ECHO {v}
r|ECHO
wk|TIME
r|COMMAND COUNT
r|COMMAND INFO get set nonsense
r|COMMAND GETKEYS MSET a 1 b 2
r|COMMAND GETKEYS nonsense a
w|COMMAND NONSENSE
r|COMMAND DOCS set
w|ACL WHOAMI
w|ACL CAT read extra
w~|ACL CAT hash
w|CLIENT GETNAME
w|CLIENT SETNAME {m}
w|CLIENT SETNAME {v}
w|CLIENT NO-EVICT off
w|CLIENT NO-EVICT maybe
w|CLIENT GETREDIR
w|CLIENT HELP
w|CLIENT NONSENSE
w|CLIENT
w|CLIENT ID extra
w|CLIENT KILL ID abc
w|CLIENT KILL USER nobody-{m}
w|CLIENT KILL 1.2.3.4:5
w|CLIENT KILL TYPE {v}
w|CLIENT LIST TYPE {v}
w|CLIENT LIST TYPE master
w|CLIENT LIST ID abc
w|CLIENT UNBLOCK abc
w|CLIENT UNBLOCK 1 {v}
w|CLIENT UNBLOCK 999999999
w|CLIENT REPLY maybe
w|CONFIG GET maxmemory-policy
w|CONFIG NONSENSE
w|SLOWLOG HELP
w|MEMORY HELP
w|LATENCY NONSENSE
w|SCRIPT EXISTS 0000000000000000000000000000000000000000
w|EVALSHA 0000000000000000000000000000000000000000 0
w|FUNCTION NONSENSE
w|FCALL nonsense 1 {s}
w|EVAL return{sp}redis.call('SET',KEYS[1],ARGV[1]) 1 {s} {v}
w|EVAL return{sp}redis.call('GET',KEYS[1]) 1 {s}
w|EVAL redis.call('INCR',KEYS[1]);return{sp}redis.call('LPUSH',KEYS[1],1) 1 {s}
w|EVAL return{sp}{redis.call('RPUSH',KEYS[1],ARGV[1]),redis.call('LLEN',KEYS[1]),'x'} 1 {l} {v}
w|EVAL return{sp}{1,2.5,'three',{4,false,true},redis.status_reply('OK')} 0
w|EVAL return{sp}redis.error_reply('MY{sp}own{sp}error') 0
w|EVAL return{sp}{err='x\\r\\ny'} 0
w|EVAL return{sp}redis.pcall('LLEN',KEYS[1]) 1 {s}
w|EVAL redis.setresp(3);return{sp}redis.call('HGETALL',KEYS[1]) 1 {h}
w|EVAL syntax{sp}error 0
w|EVAL return 5
r|EVAL_RO return{sp}redis.call('GET',KEYS[1]) 1 {s}
r|EVAL_RO return{sp}redis.call('SET',KEYS[1],1) 1 {s}
w|EVAL return{sp}redis.call('SELECT',1) 0
w|FCALL store 1 {s} {v}
r|FCALL_RO fetch 1 {s}
r|FCALL_RO store 1 {s} {v}
w|EXEC
w|DISCARD
w|UNWATCH
w|WATCH
w|MULTI extra
w|WAIT 0 5
w|CLUSTER NONSENSE
w|NONSENSE {v} {v}
w|NONSENSE
r|get
r|GET {s} {s}
w|sEt {s}
w|{v} {v}
w|{e}
r|GET {e}
w|client|id
w|PUBLISH {ch}
w|PUBSUB NONSENSE
w|SUBSCRIBE
w|SELECT
w|SELECT 1 2
w|SELECT abc
w|SELECT -1
w|SELECT 99
w|SELECT 99999999999
w|AUTH
w|AUTH a b c
w|HELLO 4
w|HELLO abc
w|HELLO 3 NONSENSE
w|HELLO 3 SETNAME
w|HELLO 3 SETNAME {v}
w|HELLO 3 AUTH alice
w|HELLO 3 AUTH alice wrong
w|AUTH alice wrong
w|AUTH nobody-{m} {v}
w|RESET extra
";

/// What tells how a value came to be where it is, and not what it is: a node that was started again,
/// or was given the value by another, says something else.
const HISTORIES: [&str; 4] = [
    "OBJECT ENCODING",
    "OBJECT REFCOUNT",
    "XINFO GROUPS",
    "XINFO STREAM",
];

/// Fills gaps from a stream of numbers.
#[derive(Debug)]
pub(super) struct Pen {
    pub prng: Prng,
    /// What the troupe's keys begin with.
    pub prefix: String,
    /// Ids and words given out.
    pub count: u64,
    lines: Vec<(&'static str, &'static str)>,
}

impl Pen {
    /// A pen for the troupe whose keys begin so, and whose node may be broken.
    pub fn new(prng: Prng, prefix: &str, is_faulty: bool) -> Self {
        let is_history = |line: &str| HISTORIES.iter().any(|it| line.starts_with(it));
        let lines = LINES
            .lines()
            .filter_map(|line| line.split_once('|'))
            .filter(|(_, line)| !is_faulty || !is_history(line));
        Self {
            prng,
            prefix: prefix.to_owned(),
            count: 0,
            lines: lines.collect(),
        }
    }

    /// Some command.
    pub fn draw(&mut self) -> Command {
        let (marks, template) = *self.prng.pick(&self.lines);
        let compare = match marks.as_bytes().get(1) {
            Some(b'~') => Compare::Sorted(1),
            Some(b'%') => Compare::Sorted(2),
            Some(b't') => Compare::Near(60_000),
            Some(b'k') => Compare::Kind,
            _ => Compare::Exact,
        };
        Command {
            words: self.fill(template),
            is_read: marks.starts_with('r'),
            compare,
        }
    }

    /// Some command whose reply is compared byte by byte.
    pub fn draw_exact(&mut self) -> Command {
        loop {
            let command = self.draw();
            if command.compare == Compare::Exact {
                return command;
            }
        }
    }

    /// The words of a template.
    pub fn fill(&mut self, template: &str) -> Vec<Vec<u8>> {
        let words = template.split(' ');
        words.map(|word| self.fill_word(word)).collect()
    }

    /// A command of a template, compared byte by byte.
    pub fn command(&mut self, template: &str, is_read: bool) -> Command {
        Command {
            words: self.fill(template),
            is_read,
            compare: Compare::Exact,
        }
    }

    fn fill_word(&mut self, word: &str) -> Vec<u8> {
        let mut filled = Vec::new();
        let mut rest = word;
        while let Some((before, after)) = rest.split_once('{') {
            filled.extend_from_slice(before.as_bytes());
            let gap = after.split_once('}').and_then(|(name, after)| {
                let value = self.gap(name)?;
                Some((value, after))
            });
            match gap {
                Some((value, after)) => {
                    filled.extend(value);
                    rest = after;
                }
                // A brace that is no gap.
                None => {
                    filled.push(b'{');
                    rest = after;
                }
            }
        }
        filled.extend_from_slice(rest.as_bytes());
        filled
    }

    fn gap(&mut self, name: &str) -> Option<Vec<u8>> {
        let text = match name {
            "v" => return Some(self.value()),
            "i" => self.prng.between(0, 20).to_string(),
            "f" => format!("{}.5", self.prng.between(0, 20)),
            "c" => self.prng.between(0, 5).to_string(),
            "ix" => (self.prng.between(0, 10) as i64 - 5).to_string(),
            "m" => format!("m{}", self.prng.below(6)),
            "d" => format!("field{}", self.prng.below(6)),
            "b#" => self.prng.below(200).to_string(),
            "e" => String::new(),
            "big" => self.prng.between(20_000, 900_000).to_string(),
            "sp" => " ".to_owned(),
            "id" => {
                self.count += 1;
                format!("{}-1", self.count + 10)
            }
            "old" => format!("{}-1", self.prng.between(10, 10 + self.count.max(1))),
            "ch" => format!("{}ch{}", self.prefix, self.prng.below(3)),
            "pre" => self.prefix.clone(),
            "k" => self.any_key(),
            kind if KINDS.contains(&kind) => {
                if self.prng.chance(60) {
                    self.any_key()
                } else {
                    format!("{}{kind}{}", self.prefix, self.prng.below(KEYS))
                }
            }
            _ => return None,
        };
        Some(text.into_bytes())
    }

    fn any_key(&mut self) -> String {
        let kind = self.prng.pick(&KINDS);
        format!("{}{kind}{}", self.prefix, self.prng.below(KEYS))
    }

    /// A value of any bytes, mostly short.
    pub fn value(&mut self) -> Vec<u8> {
        match self.prng.weighted(&[300, 100, 60, 60, 30, 12, 2]) {
            0 => format!("v{}", self.prng.below(1000)).into_bytes(),
            1 => self.prng.below(100_000).to_string().into_bytes(),
            2 => Vec::new(),
            3 => self.bytes(1, 30),
            4 => self.bytes(100, 3000),
            5 => vec![b'L'; self.prng.size(10_000, 80_000)],
            _ => vec![b'H'; self.prng.size(200_000, 1_000_000)],
        }
    }

    /// Any bytes.
    pub fn bytes(&mut self, low: usize, high: usize) -> Vec<u8> {
        let odd = b"\r\n\0 \t'\"\\*$:+-~%>\xff\x80az09";
        let len = self.prng.size(low, high);
        (0..len).map(|_| *self.prng.pick(odd)).collect()
    }

    /// A word that nobody else has.
    pub fn unique(&mut self) -> String {
        self.count += 1;
        format!("w{}", self.count)
    }
}
