//! All commands of one node.
//!
//! Holds the rows and the look-up, and how what a node says and what is audited become one. It must
//! not know what is done with them. Its invariant: what a node calls stricter than the audited list
//! does is never shared.

use std::hash::{BuildHasher, Hasher};
use std::sync::LazyLock;

use foldhash::fast::FixedState;

use super::arguments::Variant;
use super::keys::{Access, Begin, Find, KeySpec};
use super::reply::{self, Malformed, Row};
use super::rule::{self, Marks};
use super::{Class, Command, Handling, audited};

/// Longest name that is found, the container's among it. Redis has none above 40.
const NAME_LEN_MAX: usize = 64;

/// All commands of one node.
#[derive(Debug, Clone)]
pub struct Table {
    /// In the order of names.
    rows: Box<[Command]>,
    /// Open addressing over a power of two of slots, half of them free at least.
    slots: Box<[Slot]>,
}

/// Where a row is. Most that are not looked for are told by the tag.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    tag: u16,
    /// Index of the row, from 1; 0: free.
    row: u16,
}

impl Table {
    /// The audited commands of all versions: until a node has told its own, and for nodes that do
    /// not tell.
    pub fn builtin() -> Self {
        Self::new(audited::commands().collect())
    }

    /// What a node answered to COMMAND, complete, in RESP2 or RESP3.
    pub fn from_reply(reply: &[u8]) -> Result<Self, Malformed> {
        static AUDITED: LazyLock<Table> = LazyLock::new(Table::builtin);
        let audited = &*AUDITED;
        let live = reply::rows(reply)?;
        let mut rows = Vec::with_capacity(live.len());
        for row in &live {
            let name = name_of(row);
            let known = audited.named(name.as_bytes());
            if known.is_some_and(|known| known.is_container) && !row.is_detailed {
                rows.extend(audited.subcommands(&name).cloned());
            }
            rows.push(combine(name, row, known));
        }
        rows.extend(audited.iter().filter(|row| row.is_kept).cloned());
        Ok(Self::new(rows))
    }

    /// The command of a request: by its name, and by the word behind it if the name is that of a
    /// container. A container is answered also for a subcommand that it does not have. A name that
    /// is not found is to be sent as what nobody looked at: the node refuses it, or came to know it
    /// since.
    #[inline]
    pub fn find(&self, name: &[u8], subcommand: Option<&[u8]>) -> Option<&Command> {
        let mut buffer = [0; NAME_LEN_MAX];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let command = self.named(lower)?;
        match subcommand {
            Some(subcommand) if command.is_container => Some(
                self.subcommand(buffer, name.len(), subcommand)
                    .unwrap_or(command),
            ),
            _ => Some(command),
        }
    }

    /// All commands and subcommands, in the order of names.
    pub fn iter(&self) -> std::slice::Iter<'_, Command> {
        self.rows.iter()
    }

    fn new(mut rows: Vec<Command>) -> Self {
        // Of two of one name the first stays, which is the node's.
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        rows.dedup_by(|later, first| later.name == first.name);
        assert!(rows.len() < usize::from(u16::MAX), "replies are bounded");
        let mut table = Self {
            slots: vec![Slot::default(); (rows.len() * 2 + 1).next_power_of_two()].into(),
            rows: rows.into(),
        };
        for index in 0..table.rows.len() {
            let hash = hash(table.rows[index].name.as_bytes());
            let mut at = hash as usize & (table.slots.len() - 1);
            while table.slots[at].row != 0 {
                at = (at + 1) & (table.slots.len() - 1);
            }
            table.slots[at] = Slot {
                tag: tag(hash),
                row: index as u16 + 1,
            };
        }
        table
    }

    /// The row of a name in lower case.
    fn named(&self, name: &[u8]) -> Option<&Command> {
        let hash = hash(name);
        let mut at = hash as usize & (self.slots.len() - 1);
        loop {
            let slot = self.slots[at];
            let command = &self.rows[usize::from(slot.row.checked_sub(1)?)];
            if slot.tag == tag(hash) && command.name.as_bytes() == name {
                return Some(command);
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// The row of a subcommand, its container's name being in the buffer.
    fn subcommand(
        &self,
        mut buffer: [u8; NAME_LEN_MAX],
        len: usize,
        subcommand: &[u8],
    ) -> Option<&Command> {
        let rest = buffer.get_mut(len..len + 1 + subcommand.len())?;
        rest[0] = b'|';
        rest[1..].copy_from_slice(subcommand);
        rest.make_ascii_lowercase();
        self.named(&buffer[..len + 1 + subcommand.len()])
    }

    /// The rows of a container's subcommands.
    fn subcommands<'a>(&'a self, container: &'a str) -> impl Iterator<Item = &'a Command> {
        self.iter().filter(move |command| {
            let rest = command.name.strip_prefix(container);
            rest.is_some_and(|rest| rest.starts_with('|'))
        })
    }
}

impl<'a> IntoIterator for &'a Table {
    type Item = &'a Command;
    type IntoIter = std::slice::Iter<'a, Command>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn hash(name: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(name);
    hasher.finish()
}

/// Bits of a hash that do not choose the slot.
const fn tag(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// A row's name in lower case, with its container's. Bytes that are no text make a name that
/// nobody asks for.
fn name_of(row: &Row<'_>) -> String {
    let mut name = String::from_utf8_lossy(row.name).to_ascii_lowercase();
    if let Some(container) = row.container {
        let container = String::from_utf8_lossy(container).to_ascii_lowercase();
        // Nodes name the container too; should one not, it is put before.
        let rest = name.strip_prefix(&container);
        if !rest.is_some_and(|rest| rest.starts_with('|')) {
            name = format!("{container}|{name}");
        }
    }
    name
}

/// A command as the node describes it, sent as it was audited to be.
fn combine(name: String, row: &Row<'_>, known: Option<&Command>) -> Command {
    let is_known_container = known.is_some_and(|known| known.is_container);
    let is_container = row.has_subcommands || (!row.is_detailed && is_known_container);
    let keys = keys_of(row, known);
    let class_told = rule::classify(row.marks, !keys.is_empty());
    let known = known.filter(|known| known.is_container == is_container);
    let known = known.filter(|known| is_agreed(known, class_told));
    let class = match known {
        Some(known) => known.class,
        None if is_container => Class::Admin,
        None => class_told,
    };
    let (request_policy, response_policy) = match known {
        Some(known) if !row.is_detailed => (known.request_policy, known.response_policy),
        _ => (row.request_policy, row.response_policy),
    };
    Command {
        arity: row.arity,
        class,
        class_told,
        handling: known.map_or_else(|| unaudited(&name, class), |known| known.handling),
        is_audited: known.is_some(),
        is_container,
        is_dangerous: row.marks.has(Marks::DANGEROUS),
        is_fast: row.marks.has(Marks::FAST),
        is_kept: known.is_some_and(|known| known.is_kept),
        is_gated: match known {
            // The node refuses what it did not list.
            _ if row.has_subcommands => false,
            Some(known) => known.is_gated,
            None => row.marks.has(Marks::ADMIN) || row.marks.has(Marks::DANGEROUS),
        },
        is_nondeterministic: row.marks.has(Marks::NONDETERMINISTIC),
        is_open: row.marks.has(Marks::NO_AUTH),
        is_readonly: row.marks.has(Marks::READ),
        is_refused_in_multi: row.marks.has(Marks::NO_MULTI),
        keys,
        request_policy,
        response_policy,
        variant: Variant::named(&name),
        name: name.into(),
    }
}

/// Whether what the node says of a command's class agrees with what was audited. Versions differ in
/// the marks of commands that are sent alone or by name; those are known for what they are.
fn is_agreed(known: &Command, class: Class) -> bool {
    known.class == class || known.handling != Handling::Share
}

/// What is not known in a session's class may be what makes the session's connection its own.
fn unaudited(name: &str, class: Class) -> Handling {
    match audited::handling_of_family(name) {
        Some(handling) => handling,
        None if class == Class::Session => Handling::Pin,
        None => Handling::Unaudited,
    }
}

/// Where the keys are: as the node says it, or as it is known where its version says less.
fn keys_of(row: &Row<'_>, known: Option<&Command>) -> Box<[KeySpec]> {
    if !row.specs.is_empty() {
        return row.specs.clone().into();
    }
    if let (false, Some(known)) = (row.is_detailed, known) {
        return known.keys.clone();
    }
    let is_movable = row.marks.has(Marks::MOVABLE_KEYS);
    if !is_movable && row.first_key <= 0 {
        return Box::default();
    }
    let spec = legacy_spec(row).filter(|_| !is_movable);
    [spec.unwrap_or(KeySpec {
        access: Access::Write,
        begin: Begin::Unknown,
        find: Find::Unknown,
        is_incomplete: true,
    })]
    .into()
}

fn legacy_spec(row: &Row<'_>) -> Option<KeySpec> {
    let last = if row.last_key < 0 {
        row.last_key
    } else {
        row.last_key.saturating_sub(row.first_key)
    };
    Some(KeySpec {
        access: if row.marks.has(Marks::READ) {
            Access::Read
        } else {
            Access::Write
        },
        begin: Begin::Index(row.first_key.try_into().ok()?),
        find: Find::Range {
            last: last.try_into().ok()?,
            step: row.key_step.try_into().ok()?,
            limit: 0,
        },
        is_incomplete: false,
    })
}
