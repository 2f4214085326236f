//! From a parsed statement to what it is proven to do.
//!
//! An allow-list of kinds of statements; definitions are next door. Invariant: a statement that is
//! not named here is Opaque.

use manifold_core::proof::{Reason, Setting, Statement};
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{
    CallStmt, CopyStmt, CreateTableAsStmt, DeclareCursorStmt, DiscardMode, ExplainStmt, FuncCall,
    Node, SelectStmt, TransactionStmt, TransactionStmtKind, VacuumStmt, VariableSetKind,
};

use super::catalog::Catalog;
use super::findings::{Effect, Findings};
use super::prove::{self, prove};
use super::walk::{Walker, boolean, name_of, string};
use super::{body, define, setting};

/// DECLARE … WITH HOLD, among the options of a cursor.
const CURSOR_HOLD: i32 = 0x20;

/// What has been found out about one statement.
pub(super) struct Judged {
    /// What it does.
    pub statement: Statement,
    /// A literal decided.
    pub literal: bool,
    /// A literal names the clock.
    pub freezes: bool,
}

impl Judged {
    fn of(statement: Statement) -> Self {
        Self {
            statement,
            literal: false,
            freezes: false,
        }
    }

    fn by_literal(statement: Statement) -> Self {
        Self {
            literal: true,
            ..Self::of(statement)
        }
    }
}

/// Judges a statement.
pub(super) fn judge(tree: &Tree, catalog: Option<&Catalog>) -> Judged {
    let mut walker = Walker::default();
    let statement = read(&mut walker, tree, catalog);
    let Findings {
        literal, freezes, ..
    } = walker.findings;
    match statement {
        Ok(judged) => Judged {
            literal: literal || judged.literal,
            freezes: freezes || judged.freezes,
            ..judged
        },
        Err(reason) => Judged {
            literal: literal || is_by_literal(tree),
            ..Judged::of(Statement::Opaque(reason))
        },
    }
}

/// Whether what is refused may have been refused for a literal that the walker did not see.
fn is_by_literal(tree: &Tree) -> bool {
    matches!(
        tree,
        Tree::DoStmt(_) | Tree::ExplainStmt(_) | Tree::VariableSetStmt(_)
    )
}

fn read(walker: &mut Walker, tree: &Tree, catalog: Option<&Catalog>) -> Result<Judged, Reason> {
    match tree {
        Tree::CallStmt(call) => call_procedure(walker, call, catalog),
        Tree::CheckPointStmt(_) => Ok(Judged::of(Statement::Write)),
        Tree::ClosePortalStmt(close) if close.portalname.is_empty() => {
            Ok(Judged::of(Statement::CloseAll))
        }
        Tree::ConstraintsSetStmt(_) => {
            // Deferred triggers run now; they were proven when they were queued.
            Ok(Judged::of(Statement::Inside))
        }
        Tree::ClosePortalStmt(_) | Tree::FetchStmt(_) => Ok(Judged::of(Statement::Inside)),
        Tree::CopyStmt(copy) => copy_rows(walker, copy, catalog),
        Tree::CreateTableAsStmt(create) => create_from_query(walker, create, catalog),
        Tree::DeallocateStmt(deallocate) if deallocate.isall => {
            Ok(Judged::of(Statement::DeallocateAll))
        }
        Tree::DeallocateStmt(_) | Tree::ExecuteStmt(_) => Err(Reason::Prepare),
        Tree::PrepareStmt(prepare) => {
            refuse_with(Reason::Prepare, walker, prepare.query.as_deref(), catalog)
        }
        Tree::DeclareCursorStmt(declare) => declare_cursor(walker, declare, catalog),
        Tree::DeleteStmt(_) | Tree::InsertStmt(_) | Tree::MergeStmt(_) | Tree::UpdateStmt(_) => {
            walker.tree(tree)?;
            rows(walker, catalog)
        }
        Tree::DiscardStmt(discard) => discard_state(discard.target),
        Tree::DoStmt(block) => {
            body::inline_block(walker, block)?;
            let proven = prove(&walker.findings, catalog)?;
            Ok(Judged {
                freezes: proven.freezes,
                ..Judged::by_literal(Statement::Call)
            })
        }
        Tree::ExplainStmt(explain) => explain_query(walker, explain, catalog),
        Tree::ListenStmt(_) => Err(Reason::Listen),
        Tree::LoadStmt(_) => Err(Reason::Process),
        Tree::LockStmt(lock) => lock_relations(walker, &lock.relations, catalog),
        Tree::NotifyStmt(_) => Ok(Judged::of(Statement::Write)),
        Tree::SelectStmt(select) => query(walker, select, catalog),
        Tree::TransactionStmt(transaction) => control(transaction),
        Tree::UnlistenStmt(unlisten) if unlisten.conditionname.is_empty() => {
            Ok(Judged::of(Statement::UnlistenAll))
        }
        Tree::UnlistenStmt(_) => Err(Reason::Listen),
        Tree::VacuumStmt(vacuum) => clean(walker, vacuum, catalog),
        Tree::VariableSetStmt(set) => {
            let statement = setting::statement(set)?;
            let has_value = set.kind == VariableSetKind::VarSetValue as i32
                || set.kind == VariableSetKind::VarSetMulti as i32;
            Ok(if has_value {
                Judged::by_literal(statement)
            } else {
                Judged::of(statement)
            })
        }
        Tree::VariableShowStmt(show) => Ok(Judged::of(Statement::Show(
            show.name.to_ascii_lowercase().into(),
        ))),
        _ => define::judge(walker, tree, catalog).map(Judged::of),
    }
}

/// The verdict on what reads or writes rows.
fn rows(walker: &Walker, catalog: Option<&Catalog>) -> Result<Judged, Reason> {
    let proven = prove(&walker.findings, catalog)?;
    let statement = match proven.effect {
        Effect::Write => Statement::Write,
        _ if walker.findings.sets_local => Statement::Inside,
        Effect::Wait => Statement::ReadWaiting,
        Effect::Read => Statement::Read,
    };
    Ok(Judged {
        freezes: proven.freezes,
        ..Judged::of(statement)
    })
}

fn query(
    walker: &mut Walker,
    select: &SelectStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    if let Some(into) = &select.into_clause {
        let mut select = select.clone();
        select.into_clause = None;
        walker.select(&select)?;
        define::target(into.rel.as_ref())?;
        define::prove_definition(walker, catalog)?;
        return Ok(Judged::of(Statement::Define));
    }
    if let Some(call) = only_call_of(select, "set_config")
        && let Some(set) = set_config(walker, call, catalog)?
    {
        return Ok(Judged::by_literal(set));
    }
    if let Some(call) = only_call_of(select, "pg_advisory_unlock_all")
        && is_builtin_without_arguments(call, catalog)
    {
        return Ok(Judged::of(Statement::UnlockAll));
    }
    walker.select(select)?;
    rows(walker, catalog)
}

/// Whether a call can mean nothing but PostgreSQL's own function of that name, without arguments.
fn is_builtin_without_arguments(call: &FuncCall, catalog: Option<&Catalog>) -> bool {
    let bare = FuncCall {
        funcname: call.funcname.clone(),
        funcformat: call.funcformat,
        location: call.location,
        ..FuncCall::default()
    };
    let Ok(name) = name_of(&call.funcname) else {
        return false;
    };
    let is_own = name.schema.as_deref().is_none_or(|it| it == "pg_catalog");
    is_own
        && bare == *call
        && catalog.is_some_and(|catalog| catalog.functions(&name).next().is_none())
}

/// The call, if the query is nothing but one call of a function of that name.
fn only_call_of<'s>(select: &'s SelectStmt, name: &str) -> Option<&'s FuncCall> {
    let [target] = select.target_list.as_slice() else {
        return None;
    };
    let Some(Tree::ResTarget(target)) = &target.node else {
        return None;
    };
    let value = target.val.as_deref()?;
    let Some(Tree::FuncCall(call)) = &value.node else {
        return None;
    };
    let is_named = name_of(&call.funcname).is_ok_and(|n| &*n.name == name);
    let bare = SelectStmt {
        target_list: select.target_list.clone(),
        limit_option: select.limit_option,
        op: select.op,
        ..SelectStmt::default()
    };
    (is_named && bare == *select).then_some(call)
}

/// `set_config('name', 'value', false)` of PostgreSQL's own.
fn set_config(
    walker: &mut Walker,
    call: &FuncCall,
    catalog: Option<&Catalog>,
) -> Result<Option<Statement>, Reason> {
    let [name, value, is_local] = call.args.as_slice() else {
        return Ok(None);
    };
    if boolean(is_local) != Some(false) {
        return Ok(None);
    }
    walker.findings.literal = true;
    let (Some(name), Some(value)) = (string(name), string(value)) else {
        return Err(Reason::SessionState);
    };
    let statement = setting::session(&name.to_ascii_lowercase(), value)?;
    let Statement::Set(Setting { name, value }) = statement else {
        return Err(Reason::SessionState);
    };
    walker.called(&call.funcname)?;
    prove(&walker.findings, catalog)?;
    Ok(Some(Statement::SetConfig(Setting { name, value })))
}

fn call_procedure(
    walker: &mut Walker,
    call: &CallStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    walker.call(call.funccall.as_deref().ok_or(Reason::Unrecognised)?)?;
    let proven = prove(&walker.findings, catalog)?;
    Ok(Judged {
        freezes: proven.freezes,
        ..Judged::of(Statement::Call)
    })
}

fn copy_rows(
    walker: &mut Walker,
    copy: &CopyStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    let CopyStmt {
        relation,
        query,
        attlist: _,
        is_from,
        is_program,
        filename,
        options: _,
        where_clause,
    } = copy;
    // Files and programs are the node's, and what a program does is not known.
    if *is_program || !filename.is_empty() {
        return Err(Reason::Unrecognised);
    }
    match relation {
        Some(relation) if *is_from => walker.target(Some(relation))?,
        Some(relation) => walker.relation(relation)?,
        None => walker.maybe(query.as_deref())?,
    }
    walker.maybe(where_clause.as_deref())?;
    prove(&walker.findings, catalog)?;
    Ok(Judged::of(Statement::Copy))
}

fn create_from_query(
    walker: &mut Walker,
    create: &CreateTableAsStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    define::target(create.into.as_ref().and_then(|into| into.rel.as_ref()))?;
    walker.maybe(create.query.as_deref())?;
    define::prove_definition(walker, catalog)?;
    Ok(Judged::of(Statement::Define))
}

/// Refuses a statement that is refused whatever it runs, for what it runs if that leaves more
/// behind.
fn refuse_with(
    reason: Reason,
    walker: &mut Walker,
    inner: Option<&Node>,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    let inner = inner.and_then(|node| node.node.as_ref());
    let refused = inner.and_then(|inner| read(walker, inner, catalog).err());
    Err(Reason::worst(Some(reason), refused).unwrap_or(reason))
}

fn declare_cursor(
    walker: &mut Walker,
    declare: &DeclareCursorStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    if declare.options & CURSOR_HOLD != 0 {
        return refuse_with(
            Reason::HoldCursor,
            walker,
            declare.query.as_deref(),
            catalog,
        );
    }
    walker.maybe(declare.query.as_deref())?;
    let proven = prove(&walker.findings, catalog)?;
    Ok(Judged {
        freezes: proven.freezes,
        ..Judged::of(Statement::Inside)
    })
}

/// A session that shares has no temporary objects, so discarding them does nothing; the values of
/// sequences that are forgotten may be a neighbour's, which is what a write may do to them too.
fn discard_state(target: i32) -> Result<Judged, Reason> {
    match DiscardMode::try_from(target) {
        Ok(DiscardMode::DiscardAll) => Ok(Judged::of(Statement::DiscardAll)),
        Ok(DiscardMode::DiscardPlans | DiscardMode::DiscardTemp) => Ok(Judged::of(Statement::Read)),
        Ok(DiscardMode::DiscardSequences) => Ok(Judged::of(Statement::Write)),
        _ => Err(Reason::Unrecognised),
    }
}

fn explain_query(
    walker: &mut Walker,
    explain: &ExplainStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    let inner = explain.query.as_ref().and_then(|node| node.node.as_ref());
    let inner = inner.ok_or(Reason::Unrecognised)?;
    let judged = read(walker, inner, catalog)?;
    // The value of an option may be a literal.
    let literal = judged.literal || explain.options.iter().any(has_argument);
    let statement = match (names_option(&explain.options, "analyze"), judged.statement) {
        (true, Statement::Read | Statement::ReadWaiting) => Statement::ReadWaiting,
        (true, statement @ (Statement::Define | Statement::Inside | Statement::Write)) => statement,
        (
            false,
            Statement::Define
            | Statement::Inside
            | Statement::Read
            | Statement::ReadWaiting
            | Statement::Write,
        ) => Statement::Read,
        _ => return Err(Reason::Unrecognised),
    };
    Ok(Judged {
        statement,
        literal,
        freezes: judged.freezes,
    })
}

/// Whether the option is named, whatever its value.
fn names_option(options: &[Node], name: &str) -> bool {
    options.iter().any(|option| match &option.node {
        Some(Tree::DefElem(element)) => element.defname.eq_ignore_ascii_case(name),
        _ => true,
    })
}

fn has_argument(option: &Node) -> bool {
    !matches!(&option.node, Some(Tree::DefElem(element)) if element.arg.is_none())
}

fn lock_relations(
    walker: &mut Walker,
    relations: &[Node],
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    for relation in relations {
        // Locking a view locks what it is made of, and evaluates nothing.
        walker.node(relation)?;
    }
    prove(&walker.findings, catalog)?;
    Ok(Judged::of(Statement::Inside))
}

fn control(transaction: &TransactionStmt) -> Result<Judged, Reason> {
    let statement = match TransactionStmtKind::try_from(transaction.kind) {
        Ok(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => {
            Statement::Begin
        }
        Ok(TransactionStmtKind::TransStmtCommit | TransactionStmtKind::TransStmtRollback) => {
            if transaction.chain {
                Statement::Inside
            } else {
                Statement::End
            }
        }
        // The transaction leaves its session, done or not.
        Ok(TransactionStmtKind::TransStmtPrepare) => Statement::End,
        Ok(
            TransactionStmtKind::TransStmtRelease
            | TransactionStmtKind::TransStmtRollbackTo
            | TransactionStmtKind::TransStmtSavepoint,
        ) => Statement::Inside,
        Ok(
            TransactionStmtKind::TransStmtCommitPrepared
            | TransactionStmtKind::TransStmtRollbackPrepared,
        ) => Statement::Standalone,
        _ => return Err(Reason::Unrecognised),
    };
    Ok(Judged::of(statement))
}

/// VACUUM and ANALYZE, which evaluate expressions of indexes and statistics.
fn clean(
    walker: &mut Walker,
    vacuum: &VacuumStmt,
    catalog: Option<&Catalog>,
) -> Result<Judged, Reason> {
    for relation in &vacuum.rels {
        match &relation.node {
            Some(Tree::VacuumRelation(relation)) => {
                walker.relation(relation.relation.as_ref().ok_or(Reason::Unrecognised)?)?;
            }
            _ => return Err(Reason::Unrecognised),
        }
    }
    prove(&walker.findings, catalog)?;
    if vacuum.rels.is_empty() {
        prove::whole_database(catalog.ok_or(Reason::CatalogUnknown)?)?;
    }
    let is_alone = vacuum.is_vacuumcmd || vacuum.rels.is_empty();
    Ok(Judged::of(if is_alone {
        Statement::Standalone
    } else {
        Statement::Write
    }))
}
