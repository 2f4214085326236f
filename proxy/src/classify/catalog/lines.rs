//! The lines of the catalog query: one JSON object each.
//!
//! Knows the form of the lines and nothing of what they prove. Invariant: an unknown line, an
//! unknown field or a missing one fails the whole catalog.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Catalog, CatalogError, Function, Implicit, Operator, Relation};
use crate::classify::body;
use crate::classify::findings::Trigger;

/// Who is referred to, who refers, and whether changes are carried over.
type ForeignKey = (u32, u32, bool);

/// A trigger: its function by number and its transition tables, OLD and NEW.
type TriggerRow = (u32, Option<Box<str>>, Option<Box<str>>);

/// A line.
#[derive(Deserialize)]
#[serde(tag = "is", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    /// Functions of pg_catalog of one volatility: their ids and names in step.
    Builtin {
        volatility: String,
        oids: Vec<u32>,
        names: Vec<Box<str>>,
    },
    Event {
        uses: Option<Vec<u32>>,
    },
    /// Foreign keys: who is referred to, who refers, and whether changes are carried over.
    Foreign {
        keys: Option<Vec<ForeignKey>>,
    },
    Function(Box<FunctionLine>),
    Head {
        strings: String,
        temporary: bool,
    },
    Implicit {
        uses: Option<Vec<u32>>,
        expressions: Vec<String>,
    },
    /// Parents and children.
    Inherits {
        pairs: Option<Vec<(u32, u32)>>,
    },
    Operator {
        schema: Box<str>,
        name: Box<str>,
        uses: Vec<u32>,
    },
    Relation(Box<RelationLine>),
    /// Relations of PostgreSQL's own.
    System {
        schema: Box<str>,
        names: Vec<Box<str>>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FunctionLine {
    oid: u32,
    schema: Box<str>,
    name: Box<str>,
    language: Box<str>,
    volatility: String,
    method: bool,
    attribute: bool,
    settings: Option<Vec<String>>,
    source: Option<String>,
    symbol: Option<String>,
    uses: Option<Vec<u32>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelationLine {
    oid: u32,
    schema: Box<str>,
    name: Box<str>,
    kind: char,
    guarded: bool,
    definition: Option<String>,
    reading: Option<Vec<String>>,
    statistics: Option<Vec<String>>,
    writing: Option<Vec<String>>,
    /// Definitions of triggers that have a condition.
    conditions: Option<Vec<String>>,
    triggers: Option<Vec<TriggerRow>>,
}

pub(super) fn read(lines: &[u8]) -> Result<Catalog, CatalogError> {
    let mut catalog = Catalog::default();
    let mut has_head = false;
    let mut links = Links::default();
    // Names that are not UTF-8 are never proven, so it does not matter what becomes of them.
    let text = String::from_utf8_lossy(lines);
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() {
            continue;
        }
        let line = serde_json::from_str(line).map_err(|error| CatalogError::Line {
            line: index + 1,
            problem: error.to_string(),
        })?;
        has_head |= take(&mut catalog, &mut links, line)?;
    }
    if !has_head {
        return Err(CatalogError::NoHead);
    }
    links.join(&mut catalog);
    Ok(catalog)
}

/// Links between relations, which may come before the relations themselves.
#[derive(Default)]
struct Links {
    children: BTreeMap<u32, Vec<u32>>,
    referrers: BTreeMap<u32, Vec<(u32, bool)>>,
}

impl Links {
    fn join(&mut self, catalog: &mut Catalog) {
        for (oid, &index) in &catalog.relations_by_oid {
            let relation = &mut catalog.relations[index];
            relation.children = self.children.remove(oid).unwrap_or_default();
            relation.referrers = self.referrers.remove(oid).unwrap_or_default();
        }
    }
}

/// Takes a line in and says whether it was the head.
fn take(catalog: &mut Catalog, links: &mut Links, line: Line) -> Result<bool, CatalogError> {
    match line {
        Line::Builtin {
            volatility,
            oids,
            names,
        } => {
            for (oid, name) in oids.into_iter().zip(names) {
                *catalog.builtins.entry(name.clone()).or_default() |= volatility == "v";
                catalog.builtin_names.insert(oid, name);
            }
        }
        Line::Event { uses } => catalog.event_triggers = uses.unwrap_or_default(),
        Line::Foreign { keys } => {
            for (referred, referrer, carries) in keys.unwrap_or_default() {
                links
                    .referrers
                    .entry(referred)
                    .or_default()
                    .push((referrer, carries));
            }
        }
        Line::Function(line) => take_function(catalog, *line),
        Line::Head { strings, temporary } => {
            catalog.has_temporary_path = temporary;
            return if strings == "on" {
                Ok(true)
            } else {
                Err(CatalogError::Strings)
            };
        }
        Line::Implicit { uses, expressions } => catalog.implicit.push(Implicit {
            uses: uses.unwrap_or_default(),
            expressions: body::expressions(&expressions),
        }),
        Line::Inherits { pairs } => {
            for (parent, child) in pairs.unwrap_or_default() {
                links.children.entry(parent).or_default().push(child);
            }
        }
        Line::Operator { schema, name, uses } => {
            catalog
                .operators
                .entry(name)
                .or_default()
                .push(Operator { schema, uses });
        }
        Line::Relation(line) => take_relation(catalog, *line),
        Line::System { schema, names } => {
            for name in names {
                catalog.system.entry(name).or_default().push(schema.clone());
            }
        }
    }
    Ok(false)
}

fn take_function(catalog: &mut Catalog, line: FunctionLine) {
    let index = catalog.functions.len();
    catalog.functions_by_oid.insert(line.oid, index);
    catalog
        .functions_by_name
        .entry(line.name)
        .or_default()
        .push(index);
    catalog.functions.push(Function {
        schema: line.schema,
        language: line.language,
        is_volatile: line.volatility == "v",
        is_method: line.method,
        is_attribute: line.attribute,
        settings: line.settings.unwrap_or_default(),
        source: line.source,
        symbol: line.symbol.unwrap_or_default(),
        uses: line.uses.unwrap_or_default(),
        read: Default::default(),
    });
}

fn take_relation(catalog: &mut Catalog, line: RelationLine) {
    let index = catalog.relations.len();
    let triggers = line.triggers.into_iter().flatten();
    catalog.relations_by_oid.insert(line.oid, index);
    catalog
        .relations_by_name
        .entry(line.name)
        .or_default()
        .push(index);
    catalog.relations.push(Relation {
        schema: line.schema,
        kind: line.kind,
        is_guarded: line.guarded,
        children: Vec::new(),
        referrers: Vec::new(),
        triggers: triggers
            .map(|(function, old, new)| Trigger { function, old, new })
            .collect(),
        definition: line.definition,
        reading: line.reading.unwrap_or_default(),
        statistics: line.statistics.unwrap_or_default(),
        writing: line.writing.unwrap_or_default(),
        conditions: line.conditions.unwrap_or_default(),
        queried: Default::default(),
        read: Default::default(),
        written: Default::default(),
    });
}
