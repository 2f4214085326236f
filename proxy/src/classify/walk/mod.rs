//! Reads a parse tree and collects what it does and rests on.
//!
//! An allow-list of nodes: what is not named in a `match` here is refused. Asks no catalog.
//! Invariant: every part of an accepted node that can hold a call, an operator, a type or a
//! relation has been visited; the nodes are taken apart field by field for that reason.

mod call;
mod expression;
mod json;
mod query;
mod write;

pub(super) use call::{boolean, string};

use manifold_core::proof::Reason;
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{Node, RangeVar, TypeName};

use super::findings::{Effect, Findings, Name, Need, names_the_clock};

/// How deep a tree may be; the parser's own bounds are far below.
const DEPTH_MAX: u32 = 2_000;

/// Collects findings along a tree.
#[derive(Default)]
pub(super) struct Walker {
    /// What has been found so far.
    pub findings: Findings,
    /// Names of common table expressions and transition tables in scope, innermost last.
    scope: Vec<Box<str>>,
    /// In a body a column may be a parameter, of any type.
    is_body: bool,
    depth: u32,
}

impl Walker {
    /// A walker for a function's body that takes these names for tables of the trigger's.
    pub(super) fn for_body(names: &[&str]) -> Self {
        Self {
            scope: names.iter().map(|name| Box::from(*name)).collect(),
            is_body: true,
            ..Self::default()
        }
    }

    /// Reads each of several nodes.
    pub(super) fn each(&mut self, nodes: &[Node]) -> Result<(), Reason> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    /// Reads a node if there is one.
    pub(super) fn maybe(&mut self, node: Option<&Node>) -> Result<(), Reason> {
        node.map_or(Ok(()), |node| self.node(node))
    }

    /// Reads a node.
    pub(super) fn node(&mut self, node: &Node) -> Result<(), Reason> {
        node.node.as_ref().map_or(Ok(()), |tree| self.tree(tree))
    }

    /// Reads a query, a writing statement, an item of FROM or an expression.
    pub(super) fn tree(&mut self, tree: &Tree) -> Result<(), Reason> {
        if self.depth >= DEPTH_MAX {
            return Err(Reason::Complexity);
        }
        self.depth += 1;
        let read = match tree {
            Tree::DeleteStmt(delete) => self.delete(delete),
            Tree::InsertStmt(insert) => self.insert(insert),
            Tree::MergeStmt(merge) => self.merge(merge),
            Tree::SelectStmt(select) => self.select(select),
            Tree::UpdateStmt(update) => self.update(update),
            Tree::JoinExpr(_)
            | Tree::RangeFunction(_)
            | Tree::RangeSubselect(_)
            | Tree::RangeTableSample(_)
            | Tree::RangeVar(_)
            | Tree::JsonTable(_) => self.table_item(tree),
            _ => self.expression(tree),
        };
        self.depth -= 1;
        read
    }

    fn need(&mut self, need: Need) {
        self.findings.needs.insert(need);
    }

    /// Notes an operator by its parts, the symbol last.
    fn operator(&mut self, parts: &[Node]) -> Result<(), Reason> {
        let name = name_of(parts)?;
        self.need(Need::Implicit);
        self.need(Need::Operator(name));
        Ok(())
    }

    fn plain_operator(&mut self, symbol: &str) {
        self.need(Need::Implicit);
        self.need(Need::Operator(Name::bare(symbol)));
    }

    /// Notes a type. Types are proven all together, save that a temporary one is its session's.
    fn type_name(&mut self, name: &TypeName) -> Result<(), Reason> {
        let TypeName {
            names,
            typmods,
            array_bounds,
            ..
        } = name;
        self.need(Need::Implicit);
        check_parts(names)?;
        self.each(typmods)?;
        self.each(array_bounds)
    }

    fn maybe_type(&mut self, name: Option<&TypeName>) -> Result<(), Reason> {
        name.map_or(Ok(()), |name| self.type_name(name))
    }

    fn literal(&mut self, text: &str) {
        self.findings.freezes |= names_the_clock(text);
    }

    fn is_in_scope(&self, relation: &RangeVar) -> bool {
        relation.schemaname.is_empty() && self.scope.iter().any(|n| **n == relation.relname)
    }

    /// Notes a relation that is written to.
    pub(super) fn target(&mut self, relation: Option<&RangeVar>) -> Result<(), Reason> {
        let name = relation_name(relation.ok_or(Reason::Unrecognised)?)?;
        self.findings.raise(Effect::Write);
        self.need(Need::Implicit);
        self.need(Need::Target(name));
        Ok(())
    }

    /// Notes a relation that is read and is no common table expression.
    pub(super) fn relation(&mut self, relation: &RangeVar) -> Result<(), Reason> {
        let name = relation_name(relation)?;
        self.need(Need::Implicit);
        self.need(Need::Relation(name));
        Ok(())
    }
}

/// The name of a relation. The name of the database, if given, must be this one's anyway.
pub(super) fn relation_name(relation: &RangeVar) -> Result<Name, Reason> {
    let schema = Some(relation.schemaname.as_str()).filter(|schema| !schema.is_empty());
    schema.map_or(Ok(()), check_part)?;
    check_part(&relation.relname)?;
    Ok(Name {
        schema: schema.map(Into::into),
        name: relation.relname.as_str().into(),
    })
}

/// The name that a list of parts spells.
pub(super) fn name_of(parts: &[Node]) -> Result<Name, Reason> {
    check_parts(parts)?;
    let mut parts = parts.iter().rev().map(string_of);
    let name = parts.next().flatten().ok_or(Reason::Unrecognised)?;
    let schema = parts.next().flatten();
    Ok(Name {
        schema: schema.map(Into::into),
        name: name.into(),
    })
}

/// The text of a string node.
pub(super) fn string_of(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Tree::String(string)) => Some(&string.sval),
        _ => None,
    }
}

/// Whether none of the parts of a name leads to something temporary or cannot be compared.
pub(super) fn check_parts(parts: &[Node]) -> Result<(), Reason> {
    parts.iter().filter_map(string_of).try_for_each(check_part)
}

/// PostgreSQL folds letters beyond ASCII by the database's locale and the text may be in another
/// encoding than the catalog, so that such names cannot be compared here.
fn check_part(part: &str) -> Result<(), Reason> {
    if is_temporary(part) {
        return Err(Reason::Temporary);
    }
    if part.is_ascii() {
        Ok(())
    } else {
        Err(Reason::Relation)
    }
}

/// Whether a schema is one for temporary objects.
pub(super) fn is_temporary(schema: &str) -> bool {
    schema == "pg_temp" || schema.starts_with("pg_temp_") || schema.starts_with("pg_toast_temp_")
}
