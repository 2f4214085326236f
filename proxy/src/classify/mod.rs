//! What a statement does, proven by PostgreSQL's own grammar and the database's catalog.
//!
//! The rooms: `grammar` parses, `walk` collects what a tree rests on, `catalog` holds what the
//! database has, `prove` follows the one through the other, `statement`, `define` and `setting` say
//! what each kind of statement comes to, and `thread` runs it all beside the shards. Knows no
//! client, no socket and no upstream. Invariant: whatever is not positively understood is
//! [`Statement::Opaque`].

mod body;
mod builtin;
mod catalog;
mod define;
mod findings;
mod grammar;
mod plpgsql;
mod prove;
mod setting;
mod statement;
mod thread;
mod walk;

pub use catalog::{Catalog, CatalogError};
pub use thread::{Answer, Classifier, Request};

use manifold_core::proof::{Reason, Scope, Statement, Verdict};

/// What a text does, by the catalog of its database if that is known.
///
/// Takes stack in proportion to the text's nesting; [`Classifier`] has a thread for that.
pub fn classify(text: &[u8], catalog: Option<&Catalog>) -> Verdict {
    let trees = match grammar::parse_text(text) {
        Ok(trees) => trees,
        Err(reason) => return Verdict::opaque(reason),
    };
    let mut verdict = Verdict {
        statements: Box::new([]),
        scope: Scope::Shape,
        freezes: false,
    };
    if trees.len() > STATEMENTS_MAX {
        return Verdict::opaque(Reason::Complexity);
    }
    let mut statements = Vec::with_capacity(trees.len());
    let mut catalog = catalog;
    for tree in &trees {
        let judged = statement::judge(tree, catalog);
        if judged.literal {
            verdict.scope = Scope::Text;
        }
        verdict.freezes |= judged.freezes;
        if changes_catalog(&judged.statement) {
            catalog = None;
        }
        statements.push(judged.statement);
    }
    verdict.statements = statements.into();
    verdict
}

/// A text of more statements is not judged: its verdict would be as long as itself.
const STATEMENTS_MAX: usize = 500;

/// Whether what follows in the same text can no longer be judged by the catalog.
fn changes_catalog(statement: &Statement) -> bool {
    matches!(
        statement,
        Statement::Define | Statement::Opaque(_) | Statement::Standalone
    )
}

#[cfg(test)]
mod tests;
