//! Bodies of functions, definitions of views, and expressions that the catalog holds.
//!
//! Reads them to findings, as a client's text is read. Knows no catalog. Invariant: a body is
//! accepted only if everything it runs is a query, a write, or leaves nothing beyond the
//! transaction.

use manifold_core::proof::{Reason, Statement};
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{CreateFunctionStmt, DefElem, DoStmt, Node};

use super::findings::{Effect, Findings};
use super::plpgsql::{self, Fragment};
use super::walk::{Walker, string_of};
use super::{grammar, setting};

/// What a function does, by its definition as pg_get_functiondef gives it.
pub(super) fn function(definition: &str, transitions: &[&str]) -> Result<Findings, Reason> {
    let mut walker = Walker::for_body(transitions);
    let trees = grammar::parse_body(definition)?;
    let [Tree::CreateFunctionStmt(create)] = trees.as_slice() else {
        return Err(Reason::Object);
    };
    function_body(&mut walker, create)?;
    Ok(walker.findings)
}

/// What a query does, such as a view's.
pub(super) fn query(definition: &str) -> Result<Findings, Reason> {
    let mut walker = Walker::default();
    for tree in &grammar::parse_body(definition)? {
        walker.tree(tree)?;
    }
    Ok(walker.findings)
}

/// What expressions do.
pub(super) fn expressions(texts: &[String]) -> Result<Findings, Reason> {
    let mut walker = Walker::default();
    for text in texts {
        walker.select(&*grammar::parse_expression(text)?)?;
    }
    Ok(walker.findings)
}

/// What the expressions of extended statistics do, by their definitions.
pub(super) fn statistics(definitions: &[String]) -> Result<Findings, Reason> {
    let mut walker = Walker::default();
    for definition in definitions {
        for tree in grammar::parse_body(definition)? {
            let Tree::CreateStatsStmt(create) = tree else {
                return Err(Reason::Object);
            };
            for element in &create.exprs {
                match &element.node {
                    Some(Tree::StatsElem(element)) => walker.maybe(element.expr.as_deref())?,
                    _ => return Err(Reason::Object),
                }
            }
        }
    }
    Ok(walker.findings)
}

/// What the conditions of triggers do, by the triggers' definitions.
pub(super) fn conditions(definitions: &[String]) -> Result<Findings, Reason> {
    let mut walker = Walker::default();
    for definition in definitions {
        for tree in grammar::parse_body(definition)? {
            let Tree::CreateTrigStmt(create) = tree else {
                return Err(Reason::Trigger);
            };
            walker.maybe(create.when_clause.as_deref())?;
        }
    }
    Ok(walker.findings)
}

/// Reads what DO runs.
pub(super) fn inline_block(walker: &mut Walker, block: &DoStmt) -> Result<(), Reason> {
    let language = option(&block.args, "language").map_or(Some("plpgsql"), first_string);
    let body = option(&block.args, "as").and_then(first_string);
    match (language, body) {
        (Some("plpgsql"), Some(body)) => plpgsql_body(walker, body),
        _ => Err(Reason::Object),
    }
}

fn function_body(walker: &mut Walker, create: &CreateFunctionStmt) -> Result<(), Reason> {
    for parameter in &create.parameters {
        match &parameter.node {
            Some(Tree::FunctionParameter(p)) => walker.maybe(p.defexpr.as_deref())?,
            _ => return Err(Reason::Object),
        }
    }
    if let Some(body) = &create.sql_body {
        return standard_body(walker, body);
    }
    let language = option(&create.options, "language").and_then(first_string);
    let body = option(&create.options, "as").and_then(first_string);
    match (language, body) {
        (Some("plpgsql"), Some(body)) => plpgsql_body(walker, body),
        (Some("sql"), Some(body)) => grammar::parse_body(body)?
            .iter()
            .try_for_each(|tree| body_statement(walker, tree)),
        _ => Err(Reason::Object),
    }
}

/// RETURN … or BEGIN ATOMIC … END: a statement, or lists of such.
fn standard_body(walker: &mut Walker, body: &Node) -> Result<(), Reason> {
    match &body.node {
        Some(Tree::List(list)) => list
            .items
            .iter()
            .try_for_each(|item| standard_body(walker, item)),
        Some(Tree::ReturnStmt(value)) => walker.maybe(value.returnval.as_deref()),
        Some(tree) => body_statement(walker, tree),
        None => Ok(()),
    }
}

fn plpgsql_body(walker: &mut Walker, body: &str) -> Result<(), Reason> {
    for fragment in plpgsql::fragments(body)? {
        match fragment {
            Fragment::Expression(text) => walker.select(&*grammar::parse_expression(&text)?)?,
            Fragment::Statement(text) => match grammar::parse_body(&text)?.as_slice() {
                [tree] => body_statement(walker, tree)?,
                _ => return Err(Reason::Syntax),
            },
        }
    }
    Ok(())
}

/// Reads a statement inside a body. SET LOCAL ends with the transaction, whosever it is.
fn body_statement(walker: &mut Walker, tree: &Tree) -> Result<(), Reason> {
    match tree {
        Tree::CallStmt(call) => match &call.funccall {
            Some(call) => {
                walker.findings.raise(Effect::Write);
                walker.call(call)
            }
            None => Err(Reason::Unrecognised),
        },
        Tree::DeleteStmt(_)
        | Tree::InsertStmt(_)
        | Tree::MergeStmt(_)
        | Tree::SelectStmt(_)
        | Tree::UpdateStmt(_) => walker.tree(tree),
        Tree::DoStmt(block) => {
            walker.findings.raise(Effect::Write);
            inline_block(walker, block)
        }
        Tree::NotifyStmt(_) => {
            walker.findings.raise(Effect::Write);
            Ok(())
        }
        Tree::VariableSetStmt(set) => match setting::statement(set)? {
            Statement::Inside => Ok(()),
            _ => Err(Reason::SessionState),
        },
        _ => Err(Reason::Unrecognised),
    }
}

/// The argument of an option.
pub(super) fn option<'n>(options: &'n [Node], name: &str) -> Option<&'n Node> {
    options.iter().find_map(|node| match &node.node {
        Some(Tree::DefElem(element)) if element.defname == name => argument(element),
        _ => None,
    })
}

fn argument(element: &DefElem) -> Option<&Node> {
    element.arg.as_deref()
}

/// A string, or the only one of a list: C functions have two.
fn first_string(node: &Node) -> Option<&str> {
    match &node.node {
        Some(Tree::List(list)) => match list.items.as_slice() {
            [only] => string_of(only),
            _ => None,
        },
        _ => string_of(node),
    }
}
