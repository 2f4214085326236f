//! The reply to COMMAND.
//!
//! Holds how its rows are read, in RESP2 and RESP3 and as versions since 6.0 write them. It must
//! not know the audited list. Its invariant: work is bounded by the length of the reply, however it
//! is nested.

mod reader;

use super::keys::{Access, Begin, Find, KeySpec};
use super::rule::Marks;
use super::{RequestPolicy, ResponsePolicy};
use reader::{Reader, Value};

/// Why a reply to COMMAND cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at} of the reply to COMMAND: {fault}")]
pub struct Malformed {
    /// How many bytes were understood.
    pub at: usize,
    /// What is wrong with the next.
    pub fault: Fault,
}

/// What is wrong with a reply to COMMAND.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends too early.
    #[error("it ends too early")]
    End,
    /// It is longer than what it says.
    #[error("more follows than was announced")]
    Excess,
    /// A value begins with a byte that no value begins with here, or is of another kind.
    #[error("a value of another kind was expected")]
    Kind,
    /// A length or number is none.
    #[error("no number, or none that can be")]
    Number,
    /// The node answered an error instead.
    #[error("the node refused")]
    Refused,
    /// More commands than any node has.
    #[error("more than {ROWS_MAX} commands")]
    Rows,
}

/// Commands and subcommands that a node may have.
const ROWS_MAX: usize = 8192;

/// One command as a node describes it.
#[derive(Debug, Default)]
pub struct Row<'a> {
    pub name: &'a [u8],
    /// The container that it is a subcommand of.
    pub container: Option<&'a [u8]>,
    pub arity: i32,
    pub marks: Marks,
    /// First key, last key and step, as all versions have them.
    pub first_key: i64,
    pub last_key: i64,
    pub key_step: i64,
    /// Whether it says where keys are, what tips there are and which subcommands: 7.0 and later.
    pub is_detailed: bool,
    pub specs: Vec<KeySpec>,
    pub request_policy: RequestPolicy,
    pub response_policy: ResponsePolicy,
    pub has_subcommands: bool,
}

/// All rows of a reply, subcommands behind their container.
pub fn rows(reply: &[u8]) -> Result<Vec<Row<'_>>, Malformed> {
    let mut reader = Reader::new(reply);
    let mut rows = Vec::new();
    for _ in 0..reader.list()? {
        read_row(&mut reader, None, &mut rows)?;
    }
    reader.finish()?;
    Ok(rows)
}

/// Reads a command and its subcommands; those have none of their own.
fn read_row<'a>(
    reader: &mut Reader<'a>,
    container: Option<&'a [u8]>,
    rows: &mut Vec<Row<'a>>,
) -> Result<(), Malformed> {
    let fields = match reader.value()? {
        Value::List(fields) if fields >= 6 => fields,
        Value::Null => return Ok(()),
        _ => return Err(reader.fault(Fault::Kind)),
    };
    if rows.len() == ROWS_MAX {
        return Err(reader.fault(Fault::Rows));
    }
    let mut row = Row {
        name: reader.text()?,
        container,
        arity: reader
            .integer()?
            .try_into()
            .map_err(|_| reader.fault(Fault::Number))?,
        is_detailed: fields >= 10,
        ..Row::default()
    };
    read_marks(reader, &mut row.marks)?;
    row.first_key = reader.integer()?;
    row.last_key = reader.integer()?;
    row.key_step = reader.integer()?;
    if fields >= 7 {
        read_marks(reader, &mut row.marks)?;
    }
    if fields >= 8 {
        read_tips(reader, &mut row)?;
    }
    if fields >= 9 {
        for _ in 0..reader.list()? {
            row.specs.push(read_spec(reader)?);
        }
    }
    let at = rows.len();
    let name = row.name;
    rows.push(row);
    if fields >= 10 {
        rows[at].has_subcommands = read_subcommands(reader, container, name, rows)?;
    }
    for _ in 10..fields {
        reader.skip()?;
    }
    Ok(())
}

fn read_subcommands<'a>(
    reader: &mut Reader<'a>,
    container: Option<&'a [u8]>,
    name: &'a [u8],
    rows: &mut Vec<Row<'a>>,
) -> Result<bool, Malformed> {
    let count = reader.list()?;
    for _ in 0..count {
        if container.is_some() {
            reader.skip()?;
        } else {
            read_row(reader, Some(name), rows)?;
        }
    }
    Ok(count > 0)
}

fn read_marks(reader: &mut Reader<'_>, marks: &mut Marks) -> Result<(), Malformed> {
    for _ in 0..reader.list()? {
        marks.add(Marks::named(reader.text()?));
    }
    Ok(())
}

fn read_tips(reader: &mut Reader<'_>, row: &mut Row<'_>) -> Result<(), Malformed> {
    for _ in 0..reader.list()? {
        let tip = reader.text()?;
        if let Some(policy) = tip.strip_prefix(b"request_policy:") {
            row.request_policy = RequestPolicy::named(policy);
        } else if let Some(policy) = tip.strip_prefix(b"response_policy:") {
            row.response_policy = ResponsePolicy::named(policy);
        } else {
            row.marks.add(Marks::named(tip));
        }
    }
    Ok(())
}

fn read_spec(reader: &mut Reader<'_>) -> Result<KeySpec, Malformed> {
    let mut spec = KeySpec {
        access: Access::Write,
        begin: Begin::Unknown,
        find: Find::Unknown,
        is_incomplete: false,
    };
    for _ in 0..reader.pairs()? {
        match reader.text()? {
            b"flags" => read_spec_flags(reader, &mut spec)?,
            b"begin_search" => spec.begin = read_half(reader)?.begin(),
            b"find_keys" => spec.find = read_half(reader)?.find(),
            _ => reader.skip()?,
        }
    }
    Ok(spec)
}

fn read_spec_flags(reader: &mut Reader<'_>, spec: &mut KeySpec) -> Result<(), Malformed> {
    let mut is_channel = false;
    for _ in 0..reader.list()? {
        match reader.text()? {
            b"RO" => spec.access = Access::Read,
            b"RW" => spec.access = Access::Write,
            b"OW" => spec.access = Access::Overwrite,
            b"RM" => spec.access = Access::Remove,
            b"incomplete" => spec.is_incomplete = true,
            b"not_key" => is_channel = true,
            _ => {}
        }
    }
    if is_channel {
        spec.access = Access::Channel;
    }
    Ok(())
}

/// What either half of a key specification may hold.
#[derive(Default)]
struct Half<'a> {
    kind: &'a [u8],
    keyword: &'a [u8],
    index: i64,
    start_from: i64,
    last_key: i64,
    key_step: i64,
    limit: i64,
    count_index: i64,
    first_key: i64,
}

fn read_half<'a>(reader: &mut Reader<'a>) -> Result<Half<'a>, Malformed> {
    let mut half = Half::default();
    for _ in 0..reader.pairs()? {
        match reader.text()? {
            b"type" => half.kind = reader.text()?,
            b"spec" => read_spec_fields(reader, &mut half)?,
            _ => reader.skip()?,
        }
    }
    Ok(half)
}

fn read_spec_fields<'a>(reader: &mut Reader<'a>, half: &mut Half<'a>) -> Result<(), Malformed> {
    for _ in 0..reader.pairs()? {
        let field = match reader.text()? {
            b"keyword" => {
                half.keyword = reader.text()?;
                continue;
            }
            b"index" => &mut half.index,
            b"startfrom" => &mut half.start_from,
            b"lastkey" => &mut half.last_key,
            b"keystep" => &mut half.key_step,
            b"limit" => &mut half.limit,
            b"keynumidx" => &mut half.count_index,
            b"firstkey" => &mut half.first_key,
            _ => {
                reader.skip()?;
                continue;
            }
        };
        *field = reader.integer()?;
    }
    Ok(())
}

impl Half<'_> {
    /// Where keys begin; a number that cannot be is taken for nothing said.
    fn begin(&self) -> Begin {
        let begin = match self.kind {
            b"index" => self.index.try_into().ok().map(Begin::Index),
            b"keyword" => self.start_from.try_into().ok().map(|from| Begin::Keyword {
                word: self.keyword.into(),
                from,
            }),
            _ => None,
        };
        begin.unwrap_or(Begin::Unknown)
    }

    fn find(&self) -> Find {
        match self.kind {
            b"keynum" => self.key_num(),
            b"range" => self.range(),
            _ => None,
        }
        .unwrap_or(Find::Unknown)
    }

    fn key_num(&self) -> Option<Find> {
        Some(Find::KeyNum {
            at: self.count_index.try_into().ok()?,
            first: self.first_key.try_into().ok()?,
            step: self.key_step.try_into().ok()?,
        })
    }

    fn range(&self) -> Option<Find> {
        Some(Find::Range {
            last: self.last_key.try_into().ok()?,
            step: self.key_step.try_into().ok()?,
            limit: self.limit.try_into().ok()?,
        })
    }
}

impl RequestPolicy {
    pub(super) fn named(text: &[u8]) -> Self {
        match text {
            b"all_nodes" => Self::AllNodes,
            b"all_shards" => Self::AllShards,
            b"multi_shard" => Self::MultiShard,
            _ => Self::Special,
        }
    }
}

impl ResponsePolicy {
    pub(super) fn named(text: &[u8]) -> Self {
        match text {
            b"agg_logical_and" => Self::AggLogicalAnd,
            b"agg_logical_or" => Self::AggLogicalOr,
            b"agg_max" => Self::AggMax,
            b"agg_min" => Self::AggMin,
            b"agg_sum" => Self::AggSum,
            b"all_succeeded" => Self::AllSucceeded,
            b"one_succeeded" => Self::OneSucceeded,
            _ => Self::Special,
        }
    }
}
