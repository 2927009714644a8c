//! Walks over syntax trees. sqlparser's visitors are generic, and each type of visitor compiles
//! the walk over its whole tree anew (some 150,000 lines for the compiler), so all walks of ours go
//! through two: one that reads and one that changes.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, ObjectName, Query, Select, TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

use crate::{Error, Result};

/// What a walk comes by, before its children.
#[derive(Clone, Copy)]
pub(crate) enum Node<'a> {
    /// A name in FROM or of a target.
    Relation(&'a ObjectName),
    /// An expression.
    Expr(&'a Expr),
}

/// What a walk that changes comes by.
pub(crate) enum NodeMut<'a> {
    /// A query, before its parts.
    Query(&'a mut Query),
    /// A SELECT, before its parts.
    Select(&'a mut Select),
    /// A name in FROM or of a target.
    Relation(&'a mut ObjectName),
    /// An item of FROM, before its parts.
    TableFactor(&'a mut TableFactor),
    /// An expression, after its parts.
    Expr(&'a mut Expr),
}

/// Shows every node of a tree to `see` until it breaks.
pub(crate) fn walk(
    tree: &impl Visit,
    see: &mut dyn FnMut(Node<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    tree.visit(&mut Reading(see))
}

/// Lets `change` have every node of a tree until it fails.
///
/// # Errors
/// The first of `change`.
pub(crate) fn walk_mut(
    tree: &mut impl VisitMut,
    change: &mut dyn FnMut(NodeMut<'_>) -> Result<()>,
) -> Result<()> {
    match tree.visit(&mut Changing(change)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Reading<'a>(&'a mut dyn FnMut(Node<'_>) -> ControlFlow<()>);

impl Visitor for Reading<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        (self.0)(Node::Relation(relation))
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        (self.0)(Node::Expr(expr))
    }
}

struct Changing<'a>(&'a mut dyn FnMut(NodeMut<'_>) -> Result<()>);

impl Changing<'_> {
    fn see(&mut self, node: NodeMut<'_>) -> ControlFlow<Box<Error>> {
        match (self.0)(node) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Box::new(error)),
        }
    }
}

impl VisitorMut for Changing<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Box<Error>> {
        self.see(NodeMut::Query(query))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Box<Error>> {
        self.see(NodeMut::Select(select))
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Box<Error>> {
        self.see(NodeMut::Relation(relation))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Box<Error>> {
        self.see(NodeMut::TableFactor(factor))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Box<Error>> {
        self.see(NodeMut::Expr(expr))
    }
}
