//! What SQL text looks like.
//!
//! Holds PostgreSQL's lexical rules and the shape of a statement. It must not know the grammar or
//! what a statement does. Its invariant: whatever bytes come, the answer takes linear time and no
//! recursion.

pub mod lexer;
pub mod shape;
