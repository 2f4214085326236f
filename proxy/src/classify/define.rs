//! Statements that change the catalog.
//!
//! They are proven if they make nothing temporary, and if what they evaluate on the way (a default
//! for existing rows, a condition to be checked, the query of a new table) and the event triggers
//! are. Invariant: a kind that is not named here is Opaque.

use manifold_core::proof::{Reason, Statement};
use pg_query::protobuf::node::Node as Tree;
use pg_query::protobuf::{
    AlterDatabaseStmt, AlterTableCmd, AlterTableStmt, AlterTableType, ConstrType,
    CreateFunctionStmt, CreateSchemaStmt, CreateStmt, DropStmt, IndexStmt, Node,
    PartitionBoundSpec, PartitionCmd, RangeVar, ReindexObjectType, ReindexStmt, TruncateStmt,
    ViewStmt,
};

use super::body;
use super::catalog::Catalog;
use super::findings::Need;
use super::prove::{self, prove};
use super::walk::{Walker, check_parts, is_temporary, relation_name, string_of};

/// Judges a definition.
pub(super) fn judge(
    walker: &mut Walker,
    tree: &Tree,
    catalog: Option<&Catalog>,
) -> Result<Statement, Reason> {
    if is_standalone(tree) {
        return standalone(walker, tree, catalog);
    }
    check(walker, tree, catalog)?;
    prove_definition(walker, catalog)?;
    Ok(Statement::Define)
}

/// Proves what a definition evaluates, and the event triggers.
pub(super) fn prove_definition(
    walker: &mut Walker,
    catalog: Option<&Catalog>,
) -> Result<(), Reason> {
    // Values of types are read on the way: bounds, initial conditions, defaults.
    walker.findings.needs.insert(Need::Implicit);
    prove(&walker.findings, catalog)?;
    let catalog = catalog.ok_or(Reason::CatalogUnknown)?;
    prove::event_triggers(catalog)
}

/// Whether a relation may be created: it is not temporary, by its own words or by the path.
pub(super) fn target(relation: Option<&RangeVar>) -> Result<(), Reason> {
    let relation = relation.ok_or(Reason::Unrecognised)?;
    if relation.relpersistence == "t" || is_temporary(&relation.schemaname) {
        return Err(Reason::Temporary);
    }
    Ok(())
}

/// What cannot run inside a transaction block, or not always.
fn is_standalone(tree: &Tree) -> bool {
    match tree {
        Tree::AlterSystemStmt(_)
        | Tree::AlterSubscriptionStmt(_)
        | Tree::ClusterStmt(_)
        | Tree::CreateSubscriptionStmt(_)
        | Tree::CreateTableSpaceStmt(_)
        | Tree::CreatedbStmt(_)
        | Tree::DropSubscriptionStmt(_)
        | Tree::DropTableSpaceStmt(_)
        | Tree::DropdbStmt(_) => true,
        Tree::AlterDatabaseStmt(AlterDatabaseStmt { options, .. }) => {
            body::option(options, "tablespace").is_some()
        }
        Tree::AlterTableStmt(alter) => alter.cmds.iter().any(detaches_concurrently),
        Tree::DropStmt(drop) => drop.concurrent,
        Tree::IndexStmt(index) => index.concurrent,
        Tree::ReindexStmt(reindex) => {
            !reindex.params.is_empty()
                || ![
                    ReindexObjectType::ReindexObjectIndex as i32,
                    ReindexObjectType::ReindexObjectTable as i32,
                ]
                .contains(&reindex.kind)
        }
        _ => false,
    }
}

fn detaches_concurrently(node: &Node) -> bool {
    let Some(Tree::AlterTableCmd(command)) = &node.node else {
        return false;
    };
    let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
    matches!(
        definition,
        Some(Tree::PartitionCmd(PartitionCmd {
            concurrent: true,
            ..
        }))
    ) || command.subtype == AlterTableType::AtDetachPartitionFinalize as i32
}

fn standalone(
    walker: &mut Walker,
    tree: &Tree,
    catalog: Option<&Catalog>,
) -> Result<Statement, Reason> {
    match tree {
        Tree::ClusterStmt(cluster) => match &cluster.relation {
            Some(relation) => walker.relation(relation)?,
            None => prove::whole_database(catalog.ok_or(Reason::CatalogUnknown)?)?,
        },
        Tree::IndexStmt(index) => index_expressions(walker, index)?,
        Tree::ReindexStmt(reindex) => reindexed(walker, reindex, catalog)?,
        // Nothing of these evaluates anything.
        _ => {}
    }
    prove_definition(walker, catalog)?;
    Ok(Statement::Standalone)
}

/// What a definition evaluates goes to the walker; what it makes must not be temporary.
fn check(walker: &mut Walker, tree: &Tree, catalog: Option<&Catalog>) -> Result<(), Reason> {
    match tree {
        Tree::AlterTableStmt(alter) => alter_table(walker, alter, catalog),
        Tree::AlterDomainStmt(alter) => match &alter.def {
            Some(definition) => constraint(walker, definition),
            None => Ok(()),
        },
        Tree::AlterEnumStmt(alter) => check_parts(&alter.type_name),
        Tree::CompositeTypeStmt(create) => target(create.typevar.as_ref()),
        Tree::CreateDomainStmt(create) => check_parts(&create.domainname),
        Tree::CreateEnumStmt(create) => check_parts(&create.type_name),
        Tree::CreateFunctionStmt(create) => create_function(walker, create),
        Tree::CreateRangeStmt(create) => check_parts(&create.type_name),
        Tree::CreateSchemaStmt(create) => create_schema(walker, create, catalog),
        Tree::CreateSeqStmt(create) => target(create.sequence.as_ref()),
        Tree::CreateStmt(create) => create_table(walker, create),
        Tree::DefineStmt(define) => check_parts(&define.defnames),
        Tree::DropStmt(drop) => drop_objects(drop),
        Tree::IndexStmt(index) => index_expressions(walker, index),
        Tree::RefreshMatViewStmt(refresh) => {
            let name = relation_name(refresh.relation.as_ref().ok_or(Reason::Unrecognised)?)?;
            walker.findings.needs.insert(Need::Refresh(name));
            Ok(())
        }
        Tree::ReindexStmt(reindex) => reindexed(walker, reindex, catalog),
        Tree::TruncateStmt(truncate) => truncate_tables(walker, truncate),
        Tree::ViewStmt(view) => create_view(walker, view),
        _ if is_plain(tree) => Ok(()),
        _ => Err(Reason::Unrecognised),
    }
}

/// Evaluates nothing and makes nothing that could be temporary.
fn is_plain(tree: &Tree) -> bool {
    matches!(
        tree,
        Tree::AlterCollationStmt(_)
            | Tree::AlterDatabaseRefreshCollStmt(_)
            | Tree::AlterDatabaseSetStmt(_)
            | Tree::AlterDatabaseStmt(_)
            | Tree::AlterDefaultPrivilegesStmt(_)
            | Tree::AlterEventTrigStmt(_)
            | Tree::AlterFunctionStmt(_)
            | Tree::AlterObjectDependsStmt(_)
            | Tree::AlterObjectSchemaStmt(_)
            | Tree::AlterOpFamilyStmt(_)
            | Tree::AlterOperatorStmt(_)
            | Tree::AlterOwnerStmt(_)
            | Tree::AlterPolicyStmt(_)
            | Tree::AlterPublicationStmt(_)
            | Tree::AlterRoleSetStmt(_)
            | Tree::AlterRoleStmt(_)
            | Tree::AlterSeqStmt(_)
            | Tree::AlterStatsStmt(_)
            | Tree::AlterTsconfigurationStmt(_)
            | Tree::AlterTypeStmt(_)
            | Tree::CommentStmt(_)
            | Tree::CreateCastStmt(_)
            | Tree::CreateEventTrigStmt(_)
            | Tree::CreateOpClassStmt(_)
            | Tree::CreateOpFamilyStmt(_)
            | Tree::CreatePolicyStmt(_)
            | Tree::CreatePublicationStmt(_)
            | Tree::CreateRoleStmt(_)
            | Tree::CreateStatsStmt(_)
            | Tree::CreateTrigStmt(_)
            | Tree::DropOwnedStmt(_)
            | Tree::DropRoleStmt(_)
            | Tree::GrantRoleStmt(_)
            | Tree::GrantStmt(_)
            | Tree::ReassignOwnedStmt(_)
            | Tree::RenameStmt(_)
            | Tree::RuleStmt(_)
    )
}

/// Bounds are computed now, and constant parts of conditions and keys may be.
fn create_table(walker: &mut Walker, create: &CreateStmt) -> Result<(), Reason> {
    target(create.relation.as_ref())?;
    for parent in &create.inh_relations {
        match &parent.node {
            Some(Tree::RangeVar(parent)) => target(Some(parent))?,
            _ => return Err(Reason::Unrecognised),
        }
    }
    for element in create.table_elts.iter().chain(&create.constraints) {
        match &element.node {
            Some(Tree::ColumnDef(column)) => {
                let evaluated = column.constraints.iter().filter(|c| !is_default(c));
                evaluated
                    .into_iter()
                    .try_for_each(|c| constraint(walker, c))?;
            }
            Some(Tree::Constraint(_)) => constraint(walker, element)?,
            Some(Tree::TableLikeClause(_)) => {}
            _ => return Err(Reason::Unrecognised),
        }
    }
    for key in create.partspec.iter().flat_map(|spec| &spec.part_params) {
        match &key.node {
            Some(Tree::PartitionElem(key)) => walker.maybe(key.expr.as_deref())?,
            _ => return Err(Reason::Unrecognised),
        }
    }
    create
        .partbound
        .as_ref()
        .map_or(Ok(()), |bound| partition_bound(walker, bound))
}

/// A default, of which a table that is only being made evaluates nothing.
fn is_default(node: &Node) -> bool {
    matches!(&node.node, Some(Tree::Constraint(c)) if c.contype == ConstrType::ConstrDefault as i32)
}

fn partition_bound(walker: &mut Walker, bound: &PartitionBoundSpec) -> Result<(), Reason> {
    walker.each(&bound.listdatums)?;
    walker.each(&bound.lowerdatums)?;
    walker.each(&bound.upperdatums)
}

/// Creating in another language may load that language's library into the process.
fn create_function(walker: &mut Walker, create: &CreateFunctionStmt) -> Result<(), Reason> {
    check_parts(&create.funcname)?;
    walker.findings.literal = true;
    let language = body::option(&create.options, "language").map_or(Some("sql"), string_of);
    match language.map(str::to_ascii_lowercase).as_deref() {
        Some("plpgsql" | "sql") => Ok(()),
        _ => Err(Reason::SessionState),
    }
}

fn create_schema(
    walker: &mut Walker,
    create: &CreateSchemaStmt,
    catalog: Option<&Catalog>,
) -> Result<(), Reason> {
    create
        .schema_elts
        .iter()
        .try_for_each(|node| match &node.node {
            Some(tree) if !is_standalone(tree) => check(walker, tree, catalog),
            _ => Err(Reason::Unrecognised),
        })
}

/// A view of something temporary is temporary itself, without a word.
fn create_view(walker: &mut Walker, view: &ViewStmt) -> Result<(), Reason> {
    target(view.view.as_ref())?;
    walker.maybe(view.query.as_deref())
}

fn drop_objects(drop: &DropStmt) -> Result<(), Reason> {
    drop.objects
        .iter()
        .try_for_each(|object| match &object.node {
            Some(Tree::List(parts)) => check_parts(&parts.items),
            _ => Ok(()),
        })
}

fn index_expressions(walker: &mut Walker, index: &IndexStmt) -> Result<(), Reason> {
    if let Some(relation) = &index.relation {
        target(Some(relation))?;
    }
    walker.each(&index.index_params)?;
    walker.maybe(index.where_clause.as_deref())?;
    Ok(())
}

fn reindexed(
    walker: &mut Walker,
    reindex: &ReindexStmt,
    catalog: Option<&Catalog>,
) -> Result<(), Reason> {
    match (&reindex.relation, ReindexObjectType::try_from(reindex.kind)) {
        (Some(relation), Ok(ReindexObjectType::ReindexObjectTable)) => walker.relation(relation),
        // Which table an index belongs to is not known here.
        _ => prove::whole_database(catalog.ok_or(Reason::CatalogUnknown)?),
    }
}

fn truncate_tables(walker: &mut Walker, truncate: &TruncateStmt) -> Result<(), Reason> {
    let cascades = truncate.behavior == pg_query::protobuf::DropBehavior::DropCascade as i32;
    for node in &truncate.relations {
        let Some(Tree::RangeVar(relation)) = &node.node else {
            return Err(Reason::Unrecognised);
        };
        let name = relation_name(relation)?;
        walker.findings.needs.insert(Need::Truncate(name, cascades));
    }
    Ok(())
}

/// Rows that exist are checked, converted and filled in. A table that is unknown has been made in
/// this transaction, out of what was proven then.
fn alter_table(
    walker: &mut Walker,
    alter: &AlterTableStmt,
    catalog: Option<&Catalog>,
) -> Result<(), Reason> {
    let relation = alter.relation.as_ref().ok_or(Reason::Unrecognised)?;
    target(Some(relation))?;
    let name = relation_name(relation)?;
    if catalog.is_some_and(|catalog| catalog.relations(&name).next().is_some()) {
        walker.findings.needs.insert(Need::Relation(name));
    }
    for node in &alter.cmds {
        let Some(Tree::AlterTableCmd(command)) = &node.node else {
            return Err(Reason::Unrecognised);
        };
        alter_command(walker, command)?;
    }
    Ok(())
}

fn alter_command(walker: &mut Walker, command: &AlterTableCmd) -> Result<(), Reason> {
    let definition = command.def.as_ref().and_then(|def| def.node.as_ref());
    match (AlterTableType::try_from(command.subtype), definition) {
        (
            Ok(AlterTableType::AtAddColumn | AlterTableType::AtAlterColumnType),
            Some(Tree::ColumnDef(column)),
        ) => {
            walker.maybe(column.raw_default.as_deref())?;
            column
                .constraints
                .iter()
                .try_for_each(|c| constraint(walker, c))
        }
        (Ok(AlterTableType::AtAddConstraint), Some(_)) => command
            .def
            .as_ref()
            .map_or(Ok(()), |c| constraint(walker, c)),
        (Ok(AlterTableType::AtAttachPartition), Some(Tree::PartitionCmd(attach))) => attach
            .bound
            .as_ref()
            .map_or(Ok(()), |bound| partition_bound(walker, bound)),
        (Ok(AlterTableType::AtColumnDefault | AlterTableType::AtSetExpression), definition) => {
            definition.map_or(Ok(()), |expression| walker.tree(expression))
        }
        // Statements about another server's tables.
        (Ok(AlterTableType::AtGenericOptions | AlterTableType::AtAlterColumnGenericOptions), _) => {
            Err(Reason::Unrecognised)
        }
        (Ok(AlterTableType::Undefined) | Err(_), _) => Err(Reason::Unrecognised),
        (Ok(_), _) => Ok(()),
    }
}

fn constraint(walker: &mut Walker, node: &Node) -> Result<(), Reason> {
    match &node.node {
        Some(Tree::Constraint(constraint)) => {
            walker.maybe(constraint.raw_expr.as_deref())?;
            walker.maybe(constraint.where_clause.as_deref())?;
            walker.each(&constraint.exclusions)?;
            if let Some(referred) = &constraint.pktable {
                target(Some(referred))?;
            }
            Ok(())
        }
        Some(tree) => walker.tree(tree),
        None => Ok(()),
    }
}
