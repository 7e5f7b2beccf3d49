//! `config.egress` and `config.resources` of a connection: what its connector may reach and use. The agent's policy bounds
//! both; what is absent here is what that policy gives to everybody.

use std::ops::RangeInclusive;

use inshore_config::Egress;
use serde_json::{Value, json};

use super::ApiError;
use super::body::Body;
use crate::store::Bounds;

const RULES_MAX: usize = 1000;
/// A name of 253 bytes and its ports.
const RULE_BYTES_MAX: usize = 300;
/// An interpreter with its libraries needs most of the least.
const MEMORY_BYTES: RangeInclusive<i64> = 64 << 20..=1 << 44;
const CPU_PERCENT: RangeInclusive<i64> = 10..=102_400;
const SCRATCH_BYTES: RangeInclusive<i64> = 1 << 20..=1 << 50;

/// As replies show them.
pub(super) fn resources_json(bounds: &Bounds) -> Value {
    json!({
        "memory_bytes": bounds.memory_bytes, "cpu_percent": bounds.cpu_percent, "scratch_bytes": bounds.scratch_bytes,
    })
}

/// Merges: what is absent keeps its value, null takes it away.
pub(super) fn apply(bounds: &mut Bounds, config: &Body) -> Result<(), ApiError> {
    if config.has("egress") {
        bounds.egress = rules(config)?;
    }
    if !config.has("resources") {
        return Ok(());
    }
    let resources = config.object("resources")?;
    if resources.0.is_empty() {
        (bounds.memory_bytes, bounds.cpu_percent, bounds.scratch_bytes) = (None, None, None);
    }
    let known = [
        ("memory_bytes", &mut bounds.memory_bytes, MEMORY_BYTES),
        ("cpu_percent", &mut bounds.cpu_percent, CPU_PERCENT),
        ("scratch_bytes", &mut bounds.scratch_bytes, SCRATCH_BYTES),
    ];
    if let Some(other) = resources.0.keys().find(|key| known.iter().all(|(name, ..)| name != key)) {
        let names = "memory_bytes, cpu_percent and scratch_bytes";
        return Err(ApiError::invalid(format!("`config.resources.{other}` is not known; there are {names}")));
    }
    for (name, bound, range) in known.into_iter().filter(|(name, ..)| resources.has(name)) {
        let number = resources.number(name)?;
        if number.is_some_and(|number| !range.contains(&number)) {
            let (least, most) = range.into_inner();
            return Err(ApiError::invalid(format!("`config.resources.{name}` must be from {least} to {most}")));
        }
        *bound = number;
    }
    Ok(())
}

fn rules(config: &Body) -> Result<Option<Vec<String>>, ApiError> {
    let malformed = || ApiError::invalid("`config.egress` must be a list of rules such as db.example:5432, or null");
    let rules = match config.0.get("egress") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(rules)) => rules,
        Some(_) => return Err(malformed()),
    };
    let text = |rule: &Value| rule.as_str().map(str::to_owned);
    let rules = rules.iter().map(text).collect::<Option<Vec<_>>>().ok_or_else(malformed)?;
    if rules.len() > RULES_MAX || rules.iter().any(|rule| rule.len() > RULE_BYTES_MAX) {
        return Err(ApiError::invalid(format!(
            "`config.egress` holds at most {RULES_MAX} rules of {RULE_BYTES_MAX} bytes"
        )));
    }
    Egress::parse(rules.iter().map(String::as_str))
        .map_err(|error| ApiError::invalid(format!("`config.egress`: {error}")))?;
    Ok(Some(rules))
}
