//! From the model to the compiled pattern.

use std::sync::Arc;

use serde_json::{Map, Value};
use thredlib::{
    ConditionModel, ConditionType, ConsequentModel, ExprLimits, ExpressionLanguage, OnError,
    PatternId, PatternModel, PublishModel, ReactionModel, SpawnModel, Template, TransformModel,
    TransitionModel, XprModel,
    expr::{self, Expression},
    transition_name,
};

use super::{
    Expiry, Pattern, Reaction, SourceRule, WaitRule,
    condition::{Condition, Kind},
    directive::{
        Consequent, DataSource, Directives, NextInput, Publish, Spawn, Target, Transform,
        Transition,
    },
};
use crate::{port::StoredPattern, state::PatternKey};

/// A pattern that cannot run.
#[derive(Clone, Debug, thiserror::Error)]
#[error("pattern `{pattern}` cannot run: {}", .faults.join("; "))]
pub struct LoadError {
    /// The pattern.
    pub pattern: PatternId,
    /// What is wrong, each with its JSON path. `thredlib::validate` says more.
    pub faults: Vec<String>,
}

pub(super) fn compile(stored: &StoredPattern, limits: &ExprLimits) -> Result<Pattern, LoadError> {
    let model = &stored.model;
    let mut compiler = Compiler { key: &stored.key, model, limits, faults: Vec::new() };
    let reactions: Vec<_> = model
        .reactions
        .iter()
        .enumerate()
        .map(|(index, reaction)| compiler.reaction(index, reaction))
        .collect();
    for (index, reaction) in reactions.iter().enumerate() {
        if reactions[..index].iter().any(|earlier| earlier.name == reaction.name) {
            compiler.fault(
                &format!("$.reactions[{index}].name"),
                &format!("the name `{}` is taken by an earlier reaction", reaction.name),
            );
        }
    }
    if reactions.is_empty() {
        compiler.fault("$.reactions", "a pattern needs at least one reaction");
    }
    if !compiler.faults.is_empty() {
        return Err(LoadError { pattern: stored.key.id.clone(), faults: compiler.faults });
    }
    Ok(Pattern {
        key: Arc::new(stored.key.clone()),
        name: model.name.as_str().into(),
        active: model.is_active(),
        max_instances: model.max_instances.unwrap_or(0),
        instance_interval: model.instance_interval.unwrap_or(0),
        broadcast_allowed: model.broadcast_allowed.unwrap_or(false),
        echo_responses: model.echo_responses.unwrap_or(false),
        reactions,
        model: stored.model.clone(),
        used: true.into(),
    })
}

struct Compiler<'m> {
    key: &'m PatternKey,
    model: &'m PatternModel,
    limits: &'m ExprLimits,
    faults: Vec<String>,
}

impl Compiler<'_> {
    fn fault(&mut self, path: &str, message: &str) {
        self.faults.push(format!("{path}: {message}"));
    }

    fn reaction(&mut self, index: usize, model: &ReactionModel) -> Reaction {
        let path = format!("$.reactions[{index}]");
        let sources = model.allowed_sources.as_ref().map_or(&[][..], |sources| sources.as_slice());
        let roles = model.permissions.as_ref().and_then(|p| p.allowed_roles.as_ref());
        let allow_unbound = model.allow_unbound_events.unwrap_or(false);
        let name = self.model.reaction_name(index);
        let condition_path = format!("{path}.condition");
        let condition =
            self.condition(&model.condition, &condition_path, &Directives::default(), &mut 0);
        Reaction {
            waits: WaitRule::new(self.key, &name, allow_unbound.then_some(&condition)),
            name: name.into(),
            allowed_sources: sources
                .iter()
                .filter_map(|text| match SourceRule::parse(text) {
                    Ok(rule) => Some(rule),
                    Err(error) => {
                        self.fault(&format!("{path}.allowedSources"), &error.to_string());
                        None
                    }
                })
                .collect(),
            allowed_roles: roles
                .map_or(&[][..], |roles| roles.as_slice())
                .iter()
                .map(|role| role.trim_start_matches('$').into())
                .collect(),
            allow_unbound,
            match_errors: model.on_error == Some(OnError::Match),
            expiry: model.expiry.as_ref().filter(|expiry| expiry.interval > 0).map(|expiry| {
                Expiry {
                    interval: i64::try_from(expiry.interval).unwrap_or(i64::MAX),
                    transition: self
                        .transition(expiry.transition.as_ref(), &format!("{path}.expiry"))
                        .unwrap_or_default(),
                }
            }),
            condition,
        }
    }

    /// `outer` holds the directives that an `or` lends to its operands.
    fn condition(
        &mut self,
        model: &ConditionModel,
        path: &str,
        outer: &Directives,
        next: &mut u16,
    ) -> Condition {
        let node = *next;
        *next = next.saturating_add(1);
        let directives = self.directives(model, path).or(outer);
        let on_true = model.on_true.as_ref();
        let on_true = on_true.map(|on_true| self.consequent(on_true, &format!("{path}.onTrue")));
        let kind = match model.condition_type {
            ConditionType::Filter => self.filter(model, path),
            // What follows from an operand's own match never applies, nor does what it inherits.
            ConditionType::And => {
                Kind::And(self.operands(model, path, &Directives::default(), next))
            }
            ConditionType::Or => Kind::Or(self.operands(model, path, &directives, next)),
        };
        if *next == u16::MAX {
            self.fault(path, "the condition has more than 65,534 parts");
        }
        Condition { node, last: next.saturating_sub(1), kind, on_true, directives }
    }

    fn filter(&mut self, model: &ConditionModel, path: &str) -> Kind {
        if model.xpr.is_none() {
            self.fault(path, "a filter needs `xpr`");
        }
        match model.xpr.as_ref().and_then(|xpr| self.xpr(xpr, &format!("{path}.xpr"))) {
            Some(xpr) => Kind::Filter(xpr),
            None => Kind::Or(Vec::new()),
        }
    }

    fn operands(
        &mut self,
        model: &ConditionModel,
        path: &str,
        outer: &Directives,
        next: &mut u16,
    ) -> Vec<Condition> {
        if model.operands.is_empty() {
            self.fault(path, "`and` and `or` need `operands`");
        }
        let operands = model.operands.iter().enumerate();
        operands
            .map(|(i, operand)| {
                self.condition(operand, &format!("{path}.operands[{i}]"), outer, next)
            })
            .collect()
    }

    fn directives(&mut self, model: &ConditionModel, path: &str) -> Directives {
        let transform = model.transform.as_ref().and_then(|transform| {
            self.transform(transform, &format!("{path}.transform")).map(Arc::new)
        });
        let publish = model
            .publish
            .as_ref()
            .and_then(|publish| self.publish(publish, &format!("{path}.publish")).map(Arc::new));
        Directives {
            transform,
            publish,
            transition: self.transition(model.transition.as_ref(), path),
            spawn: model.spawn.as_ref().map(|model| Arc::new(spawn(model))),
        }
    }

    fn xpr(&mut self, model: &XprModel, path: &str) -> Option<Arc<dyn Expression>> {
        let (language, text) = model.resolve(self.language());
        expr::compile(language, text, self.limits)
            .map_err(|error| self.fault(path, &error.to_string()))
            .ok()
    }

    fn language(&self) -> ExpressionLanguage {
        self.model.expression_language.unwrap_or_default()
    }

    fn template(&mut self, model: &Value, path: &str) -> Option<Template> {
        Template::compile(model, self.language(), self.limits)
            .map_err(|errors| {
                for (below, error) in errors {
                    self.fault(&format!("{path}{below}"), &error.to_string());
                }
            })
            .ok()
    }

    fn consequent(&mut self, model: &ConsequentModel, path: &str) -> Consequent {
        let empty = Map::new();
        let set_local = model.set_local.as_ref().unwrap_or(&empty);
        Consequent {
            xpr: model.xpr.as_ref().and_then(|xpr| self.xpr(xpr, &format!("{path}.xpr"))),
            set_local: (set_local.iter())
                .filter_map(|(name, template)| {
                    let path = format!("{path}.setLocal.{name}");
                    Some((name.as_str().into(), self.template(template, &path)?))
                })
                .collect(),
        }
    }

    fn transform(&mut self, model: &TransformModel, path: &str) -> Option<Transform> {
        let data = match (&model.event_data_template, &model.template_xpr) {
            (Some(template), None) => {
                DataSource::Template(self.template(template, &format!("{path}.eventDataTemplate"))?)
            }
            (None, Some(xpr)) => {
                DataSource::Expression(self.xpr(xpr, &format!("{path}.templateXpr"))?)
            }
            _ => {
                self.fault(
                    path,
                    "a transform needs `eventDataTemplate` or `templateXpr`, not both",
                );
                return None;
            }
        };
        let re = model.meta.as_ref().and_then(|meta| meta.re_xpr.as_ref());
        Some(Transform { data, re: re.and_then(|re| self.xpr(re, &format!("{path}.meta.reXpr"))) })
    }

    fn publish(&mut self, model: &PublishModel, path: &str) -> Option<Publish> {
        let on_publish = model.on_publish.as_ref();
        Some(Publish {
            name: model.name.as_deref().map(Into::into),
            on_publish: on_publish
                .map(|consequent| self.consequent(consequent, &format!("{path}.onPublish"))),
            to: self.template(&model.to, &format!("{path}.to"))?.into(),
        })
    }

    fn transition(&mut self, model: Option<&TransitionModel>, path: &str) -> Option<Transition> {
        let model = model?;
        let name = model.name.as_deref().unwrap_or(transition_name::NEXT);
        let target = match name {
            transition_name::NEXT => Target::Next,
            transition_name::TERMINATE => Target::Terminate,
            transition_name::NO_TRANSITION => Target::Stay,
            name => match (0..self.model.reactions.len())
                .find(|index| self.model.reaction_name(*index) == name)
            {
                Some(index) => Target::To(index),
                None => {
                    let path = format!("{path}.transition.name");
                    self.fault(&path, &format!("there is no reaction `{name}`"));
                    return None;
                }
            },
        };
        Some(Transition { target, input: NextInput::new(model.input, model.local_name.as_deref()) })
    }
}

fn spawn(model: &SpawnModel) -> Spawn {
    Spawn {
        names: model.names.as_slice().iter().map(|name| name.as_str().into()).collect(),
        input: NextInput::new(model.input, model.local_name.as_deref()),
        spawn_type: model.spawn_type.unwrap_or_default(),
        context: model.context.unwrap_or(false),
    }
}
