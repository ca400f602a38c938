//! Statements of a template.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{Flow, Interpreter, MAX_OUTPUT, MacroClosure, RecursiveLoop, check_attribute};
use crate::jinja::arguments::CallArguments;
use crate::jinja::ast::{Expression, FilterCall, ForLoop, MacroDefinition, Statement, Target};
use crate::jinja::display;
use crate::jinja::failure::{TemplateFailure, failure};
use crate::jinja::filters;
use crate::jinja::value::{Callable, LoopState, PyItems, PyValue};

type Executed = Result<Flow, TemplateFailure>;

impl Interpreter {
    /// Executes statements up to the first that leaves or continues a loop.
    pub(super) fn execute_all(&mut self, body: &[Statement], out: &mut String) -> Executed {
        for statement in body {
            let flow = self.execute(statement, out)?;
            if flow != Flow::Next {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn execute(&mut self, statement: &Statement, out: &mut String) -> Executed {
        self.count_step()?;
        if out.len() > MAX_OUTPUT {
            return failure(format!("more than {MAX_OUTPUT} bytes of text"));
        }
        match statement {
            Statement::Text(text) => out.push_str(text),
            Statement::Print(value) => {
                let value = self.evaluate(value)?;
                if let Some(what) = display::without_text(&value) {
                    return failure(format!("prints {what}"));
                }
                self.count(value.extent().size)?;
                out.push_str(&display::text(&value));
            }
            Statement::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.evaluate(condition)?.is_true() {
                        return self.deeper(|it| it.execute_all(body, out));
                    }
                }
                return self.deeper(|it| it.execute_all(otherwise, out));
            }
            Statement::For(definition) => return self.execute_for(definition, out),
            Statement::Set { target, value } => {
                let value = self.evaluate(value)?;
                self.assign(target, value)?;
            }
            Statement::SetBlock { target, filters, body } => {
                let text = self.captured(body)?;
                let value = self.filtered(PyValue::text(text), filters)?;
                self.assign(target, value)?;
            }
            Statement::Macro(definition) => {
                let value = self.closure(definition);
                self.scope.set(&definition.name, value);
            }
            Statement::CallBlock { caller, call } => {
                let Expression::Call { callee, arguments } = call else {
                    return failure("`call` wants a call");
                };
                let callee = self.evaluate(callee)?;
                let mut arguments: CallArguments = self.arguments(arguments)?;
                let caller = self.closure(caller);
                arguments.named.push(("caller".to_owned(), caller));
                out.push_str(&display::text(&self.call(&callee, &arguments)?));
            }
            Statement::FilterBlock { filters, body } => {
                let text = self.captured(body)?;
                let value = self.filtered(PyValue::text(text), filters)?;
                out.push_str(&display::text(&value));
            }
            Statement::Scope { assignments, body } => {
                // no assignment sees another one
                let values = assignments.iter().map(|(_, value)| self.evaluate(value));
                let values: Vec<PyValue> = values.collect::<Result<_, _>>()?;
                return self.in_scope(Rc::clone(&self.scope), |it| {
                    for ((target, _), value) in assignments.iter().zip(values) {
                        it.assign(target, value)?;
                    }
                    it.execute_all(body, out)
                });
            }
            Statement::Generation(body) => {
                let start = out.len();
                self.in_scope(Rc::clone(&self.scope), |it| it.execute_all(body, out))?;
                if self.n_texts_aside == 0 {
                    self.generated.push(start..out.len());
                }
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Unavailable(tag) => {
                return failure(format!("`{tag}` wants other templates, and there are none"));
            }
        }
        Ok(Flow::Next)
    }

    /// The text that statements write, in a scope of their own.
    fn captured(&mut self, body: &[Statement]) -> Result<String, TemplateFailure> {
        let scope = Rc::clone(&self.scope);
        self.aside(|it, text| it.in_scope(scope, |it| it.execute_all(body, text)).map(drop))
    }

    fn filtered(
        &mut self,
        mut value: PyValue,
        calls: &[FilterCall],
    ) -> Result<PyValue, TemplateFailure> {
        for call in calls {
            let arguments = self.arguments(&call.arguments)?;
            self.count(filters::work(&call.name, &value))?;
            value = filters::apply(&call.name, &value, &arguments)?;
        }
        Ok(value)
    }

    fn closure(&mut self, definition: &Arc<MacroDefinition>) -> PyValue {
        let scope = Rc::clone(&self.scope);
        self.macros.push(MacroClosure { definition: Arc::clone(definition), scope });
        let name = definition.name.as_str().into();
        PyValue::Callable(Callable::Macro { idx: self.macros.len() - 1, name }.into())
    }

    fn assign(&mut self, target: &Target, value: PyValue) -> Result<(), TemplateFailure> {
        match target {
            Target::Name(name) => {
                self.scope.set(name, value);
                Ok(())
            }
            Target::Attribute(namespace, name) => match self.variable(namespace) {
                PyValue::Namespace(dict) => {
                    check_attribute(name)?;
                    dict.borrow_mut().insert(PyValue::text(&name[..]), value);
                    Ok(())
                }
                _ => failure("cannot assign attribute on non-namespace object"),
            },
            Target::Tuple(targets) => {
                let values = value.defined()?.items()?;
                if values.len() != targets.len() {
                    return failure(format!("{} values for {} names", values.len(), targets.len()));
                }
                targets
                    .iter()
                    .zip(values)
                    .try_for_each(|(target, value)| self.assign(target, value))
            }
        }
    }

    fn execute_for(
        &mut self,
        definition: &Arc<ForLoop>,
        out: &mut String,
    ) -> Result<Flow, TemplateFailure> {
        let items = self.evaluate(&definition.iterable)?;
        self.count(items.len().unwrap_or(0) / 4)?;
        let recursion = definition.is_recursive.then(|| {
            let scope = Rc::clone(&self.scope);
            self.loops.push(RecursiveLoop { definition: Arc::clone(definition), scope });
            self.loops.len() - 1
        });
        let before = std::mem::replace(&mut self.loop_depth, 0);
        let flow = self.run_loop(definition, &items, recursion, out)?;
        self.loop_depth = before;
        Ok(flow)
    }

    /// Runs a loop over `items`, and its `else` where no round has come to its end: without items,
    /// and where each round is left by `continue` or `break`. Returns where that `else` goes on.
    pub(super) fn run_loop(
        &mut self,
        definition: &ForLoop,
        items: &PyValue,
        recursion: Option<usize>,
        out: &mut String,
    ) -> Result<Flow, TemplateFailure> {
        let mut kept = items.items()?;
        if let Some(condition) = &definition.condition {
            let mut filtered = Vec::new();
            for item in kept {
                self.count_step()?;
                let is_kept = self.in_scope(Rc::clone(&self.scope), |it| {
                    it.assign(&definition.target, item.clone())?;
                    Ok(it.evaluate(condition)?.is_true())
                })?;
                if is_kept {
                    filtered.push(item);
                }
            }
            kept = filtered;
        }
        let items = Rc::new(PyItems::from(kept));
        let changed = Rc::new(RefCell::new(None));
        let depth = self.loop_depth;
        let mut has_ended_a_round = false;
        for idx in 0..items.len() {
            self.count_step()?;
            let state = LoopState {
                idx,
                items: Rc::clone(&items),
                depth,
                changed: Rc::clone(&changed),
                recursion,
            };
            let flow = self.in_scope(Rc::clone(&self.scope), |it| {
                it.scope.set("loop", PyValue::Loop(Rc::new(state)));
                it.assign(&definition.target, items[idx].clone())?;
                it.execute_all(&definition.body, out)
            })?;
            has_ended_a_round |= flow == Flow::Next;
            if flow == Flow::Break {
                break;
            }
        }
        match has_ended_a_round {
            true => Ok(Flow::Next),
            false => {
                let parent = Rc::clone(&self.scope);
                self.in_scope(parent, |it| it.execute_all(&definition.otherwise, out))
            }
        }
    }
}
