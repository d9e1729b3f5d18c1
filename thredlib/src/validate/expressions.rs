//! The expressions of a pattern: where they stand and whether they compile.

use std::ops::Range;

use super::{
    JsonPath, Spot,
    finding::Findings,
    tree::{Node, Pattern},
    words::quoted,
};
use crate::{CompileError, ConditionType, ExprLimits, ExpressionLanguage, Template, expr};

/// An expression in its place.
#[derive(Debug)]
pub(super) struct Usage<'v> {
    pub(super) path: JsonPath,
    pub(super) language: ExpressionLanguage,
    pub(super) text: &'v str,
    /// Characters of the JSON string before the expression, as of `$xpr(`.
    pub(super) offset: usize,
    pub(super) place: Place,
}

/// When an expression runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// In a filter of the entry reaction: also to test whether an event starts a thred.
    EntryFilter,
    /// Before the message leaves.
    OnPublish,
    /// At any other time.
    Step,
}

impl Usage<'_> {
    /// The place in the JSON string of a column in the expression; both count from 1.
    pub(super) fn spot(&self, column: usize) -> Spot {
        Spot::Char(self.offset + column)
    }
}

/// All expressions of a pattern, those in templates too, and all templates.
#[derive(Debug, Default)]
pub(super) struct Expressions<'v> {
    pub(super) usages: Vec<Usage<'v>>,
    templates: Vec<EmbeddedIn<'v>>,
    /// Texts in templates that look like expressions but are sent as they stand, with the column.
    literal: Vec<(JsonPath, usize)>,
}

/// A template and which of the usages stand in it.
#[derive(Debug)]
struct EmbeddedIn<'v> {
    template: Node<'v>,
    usages: Range<usize>,
}

impl<'v> Expressions<'v> {
    pub(super) fn of(pattern: &Pattern<'v>) -> Self {
        let mut collector = Collector { language: pattern.language, found: Self::default() };
        for (reaction, condition) in pattern.conditions() {
            let filter = if reaction.index == 0 { Place::EntryFilter } else { Place::Step };
            // Nothing evaluates the expression of an `and` or `or`.
            if condition.kind == Some(ConditionType::Filter) {
                collector.expression(condition.node.get("xpr"), filter);
            }
            collector.consequent(condition.node.get("onTrue"), Place::Step);
            if let Some(transform) = &condition.transform {
                collector.template(transform.get("eventDataTemplate"), Place::Step);
                collector.expression(transform.get("templateXpr"), Place::Step);
                let re = transform.get("meta").and_then(|meta| meta.get("reXpr"));
                collector.expression(re, Place::Step);
            }
            if let Some(publish) = &condition.publish {
                collector.template(publish.get("to"), Place::Step);
                collector.consequent(publish.get("onPublish"), Place::OnPublish);
            }
        }
        collector.found
    }

    /// Compiles each expression and each template.
    pub(super) fn check(&self, language: ExpressionLanguage, findings: &mut Findings) {
        let limits = ExprLimits::default();
        let mut failed = vec![false; self.usages.len()];
        for (usage, failed) in self.usages.iter().zip(&mut failed) {
            if let Err(error) = expr::compile(usage.language, usage.text, &limits) {
                *failed = true;
                report(&usage.path, usage.spot(error.column), &error, usage.language, findings);
            }
        }
        // A template may refuse more than its expressions; those have been reported just now, to
        // the character.
        for EmbeddedIn { template, usages } in &self.templates {
            if failed[usages.clone()].contains(&true) {
                continue;
            }
            let compiled = Template::compile(template.value, language, &limits);
            for (rest, error) in compiled.err().into_iter().flatten() {
                report(&template.path.below(&rest), Spot::Value, &error, language, findings);
            }
        }
        for (path, column) in &self.literal {
            let message = "this `$xpr(` is sent as it stands: the text around it makes it literal";
            let help = "make the whole text one expression, as `$xpr('Hello ' & $event.source.id)`";
            findings.warning("literal-xpr", path, message, help).at(Spot::Char(*column));
        }
    }
}

fn report(
    path: &JsonPath,
    spot: Spot,
    error: &CompileError,
    language: ExpressionLanguage,
    findings: &mut Findings,
) {
    let name = match language {
        ExpressionLanguage::Jsonata => "JSONata",
        ExpressionLanguage::Jsonpath => "JSONPath",
    };
    let message = format!("this is no {name}: {}", error.message);
    let place = format!("column {} of the expression, at {}", error.column, quoted(&error.excerpt));
    findings.error("expression-syntax", path, message, format!("mend {place}")).at(spot);
}

struct Collector<'v> {
    language: ExpressionLanguage,
    found: Expressions<'v>,
}

impl<'v> Collector<'v> {
    fn expression(&mut self, node: Option<Node<'v>>, place: Place) {
        let Some(node) = node else { return };
        let Some((path, language, text)) = node.expression(self.language) else { return };
        self.usage(path, language, text, 0, place);
    }

    fn consequent(&mut self, node: Option<Node<'v>>, place: Place) {
        let Some(node) = node else { return };
        self.expression(node.get("xpr"), place);
        for (_, template) in node.get("setLocal").iter().flat_map(Node::fields) {
            self.template(Some(template), place);
        }
    }

    fn template(&mut self, node: Option<Node<'v>>, place: Place) {
        let Some(template) = node else { return };
        let start = self.found.usages.len();
        self.embedded(&template, place);
        let usages = start..self.found.usages.len();
        self.found.templates.push(EmbeddedIn { template, usages });
    }

    /// The expressions in a template.
    fn embedded(&mut self, node: &Node<'v>, place: Place) {
        const OPEN: &str = "$xpr(";
        if let Some(text) = node.value.as_str() {
            let inner = text.strip_prefix(OPEN).and_then(|rest| rest.strip_suffix(')'));
            if let Some(inner) = inner {
                self.usage(node.path.clone(), self.language, inner, OPEN.len(), place);
            } else if let Some(at) = text.find(OPEN) {
                let column = 1 + text[..at].chars().count();
                self.found.literal.push((node.path.clone(), column));
            }
            return;
        }
        node.items().for_each(|item| self.embedded(&item, place));
        for (key, child) in node.fields() {
            if key == "$xpr" {
                self.expression(Some(child), place);
            } else {
                self.embedded(&child, place);
            }
        }
    }

    fn usage(
        &mut self,
        path: JsonPath,
        language: ExpressionLanguage,
        text: &'v str,
        offset: usize,
        place: Place,
    ) {
        self.found.usages.push(Usage { path, language, text, offset, place });
    }
}
