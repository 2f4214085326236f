//! The settings of a simulated session: node's default, startup value, session value, local value.
//!
//! Knows names and spelling rules, not statements. Invariant: `value` is always the innermost one
//! that is set, and a rollback brings back exactly what `mark` saw.

use std::collections::{BTreeMap, BTreeSet};

use super::report::Report;

/// A setting that the node knows.
struct Known {
    /// As SHOW heads its column and ParameterStatus names it.
    name: &'static str,
    /// The node's own value.
    default: &'static str,
    /// Whether a change is told to the client.
    is_reported: bool,
    /// Whether a session may change it.
    is_open: bool,
}

const fn known(name: &'static str, default: &'static str, is_reported: bool) -> Known {
    Known {
        name,
        default,
        is_reported,
        is_open: true,
    }
}

const fn fixed(name: &'static str, default: &'static str) -> Known {
    Known {
        name,
        default,
        is_reported: true,
        is_open: false,
    }
}

/// By name in lower case; the order is the order of the first reports.
const KNOWN: [(&str, Known); 17] = [
    ("application_name", known("application_name", "", true)),
    ("client_encoding", known("client_encoding", "UTF8", true)),
    (
        "client_min_messages",
        known("client_min_messages", "notice", false),
    ),
    ("datestyle", known("DateStyle", "ISO, MDY", true)),
    (
        "default_transaction_read_only",
        known("default_transaction_read_only", "off", true),
    ),
    (
        "extra_float_digits",
        known("extra_float_digits", "1", false),
    ),
    ("in_hot_standby", fixed("in_hot_standby", "off")),
    ("integer_datetimes", fixed("integer_datetimes", "on")),
    ("intervalstyle", known("IntervalStyle", "postgres", true)),
    ("is_superuser", fixed("is_superuser", "off")),
    (
        "search_path",
        known("search_path", "\"$user\", public", false),
    ),
    ("server_encoding", fixed("server_encoding", "UTF8")),
    ("server_version", fixed("server_version", "15.18")),
    (
        "standard_conforming_strings",
        known("standard_conforming_strings", "on", true),
    ),
    ("statement_timeout", known("statement_timeout", "0", false)),
    ("timezone", known("TimeZone", "UTC", true)),
    ("work_mem", known("work_mem", "4MB", false)),
];

fn find(name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|(lower, _)| *lower == name)
        .map(|(_, known)| known)
}

/// All layers of one session's settings.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the startup packet gave: what RESET goes back to.
    startup: BTreeMap<String, String>,
    layers: Mark,
    /// Custom names that were ever given a value; they never become unknown again.
    placeholders: BTreeSet<String>,
    /// What the client was told last.
    told: BTreeMap<&'static str, String>,
}

/// The layers that a rollback brings back.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    session: BTreeMap<String, String>,
    local: BTreeMap<String, String>,
}

impl Settings {
    /// Takes a startup value in.
    pub fn start_with(&mut self, name: &str, value: &str) -> Result<(), Report> {
        let value = self.canonical(name, value)?;
        self.startup.insert(name.to_owned(), value);
        Ok(())
    }

    /// SET, SET LOCAL.
    pub fn set(&mut self, name: &str, value: &str, local: bool) -> Result<String, Report> {
        let value = self.canonical(name, value)?;
        if local {
            self.layers.local.insert(name.to_owned(), value.clone());
        } else {
            self.layers.local.remove(name);
            self.layers.session.insert(name.to_owned(), value.clone());
        }
        if name.contains('.') {
            self.placeholders.insert(name.to_owned());
        }
        Ok(value)
    }

    /// RESET of one.
    pub fn reset(&mut self, name: &str) -> Result<(), Report> {
        self.value(name)
            .map_or_else(|| Err(unknown(name)), |_| Ok(()))?;
        if find(name).is_some_and(|known| !known.is_open) {
            return Err(unchangeable(name));
        }
        self.layers.session.remove(name);
        self.layers.local.remove(name);
        Ok(())
    }

    /// RESET ALL.
    pub fn reset_all(&mut self) {
        self.layers = Mark::default();
    }

    /// The value in force, if the name is known.
    pub fn value(&self, name: &str) -> Option<&str> {
        let layers = [&self.layers.local, &self.layers.session, &self.startup];
        let set = layers
            .iter()
            .find_map(|layer| layer.get(name))
            .map(String::as_str);
        let placeholder = || self.placeholders.contains(name).then_some("");
        set.or_else(|| find(name).map(|known| known.default))
            .or_else(placeholder)
    }

    /// The head of SHOW's column and the value.
    pub fn show(&self, name: &str) -> Result<(String, String), Report> {
        let value = self.value(name).ok_or_else(|| unknown(name))?;
        let head = find(name).map_or(name, |known| known.name);
        Ok((head.to_owned(), value.to_owned()))
    }

    /// The layers as they are now.
    pub fn mark(&self) -> Mark {
        self.layers.clone()
    }

    /// Brings the layers back.
    pub fn return_to(&mut self, mark: &Mark) {
        self.layers = mark.clone();
    }

    /// Ends what holds for a transaction only.
    pub fn end_local(&mut self) {
        self.layers.local.clear();
    }

    /// The reported settings whose values differ from what the client was told last.
    pub fn take_changes(&mut self) -> Vec<(&'static str, String)> {
        let mut changed = Vec::new();
        for (lower, known) in KNOWN.iter().filter(|(_, known)| known.is_reported) {
            let value = self.value(lower).unwrap_or_default().to_owned();
            if self.told.get(known.name) != Some(&value) {
                self.told.insert(known.name, value.clone());
                changed.push((known.name, value));
            }
        }
        changed
    }

    /// The names that the session itself has set, with their values: what RESET ALL would undo.
    pub fn session_values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.layers
            .session
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn canonical(&self, name: &str, value: &str) -> Result<String, Report> {
        let Some(known) = find(name) else {
            return if name.contains('.') {
                Ok(value.to_owned())
            } else {
                Err(unknown(name))
            };
        };
        if !known.is_open {
            return Err(unchangeable(name));
        }
        let current = self.value(name).unwrap_or_default();
        spell(name, value, current).ok_or_else(|| {
            Report::error(
                "22023",
                format!(
                    "invalid value for parameter \"{}\": \"{value}\"",
                    known.name
                ),
            )
        })
    }
}

fn unknown(name: &str) -> Report {
    Report::error(
        "42704",
        format!("unrecognized configuration parameter \"{name}\""),
    )
}

fn unchangeable(name: &str) -> Report {
    Report::error("55P02", format!("parameter \"{name}\" cannot be changed"))
}

/// The node's own spelling of a value; `None` for a bad one.
fn spell(name: &str, value: &str, current: &str) -> Option<String> {
    let one_of = |choices: &[&str]| {
        let found = choices
            .iter()
            .find(|choice| choice.eq_ignore_ascii_case(value));
        found.map(|&choice| choice.to_owned())
    };
    match name {
        "client_encoding" => one_of(&["UTF8", "LATIN1", "SQL_ASCII"]),
        "client_min_messages" => one_of(&["notice", "warning", "error"]),
        "datestyle" => spell_date_style(value, current),
        "default_transaction_read_only" | "standard_conforming_strings" => one_of(&["on", "off"]),
        "extra_float_digits" => value
            .parse::<i32>()
            .ok()
            .filter(|digits| (-15..=3).contains(digits))
            .map(|digits| digits.to_string()),
        "intervalstyle" => one_of(&["postgres", "iso_8601", "sql_standard"]),
        "statement_timeout" => one_of(&["0", "30s", "60s"]),
        "timezone" => one_of(&["UTC", "Europe/Paris", "Asia/Tokyo", "America/Lima"]),
        "work_mem" => one_of(&["1MB", "4MB", "8MB", "64MB"]),
        _ => Some(value.to_owned()),
    }
}

/// DateStyle has two halves; a value may name one and keep the other.
fn spell_date_style(value: &str, current: &str) -> Option<String> {
    let (mut style, mut order) = current.split_once(", ")?;
    for part in value.split(',').map(str::trim) {
        let upper = part.to_ascii_uppercase();
        match upper.as_str() {
            "ISO" => style = "ISO",
            "SQL" => style = "SQL",
            "POSTGRES" => style = "Postgres",
            "MDY" => order = "MDY",
            "DMY" => order = "DMY",
            "YMD" => order = "YMD",
            _ => return None,
        }
    }
    Some(format!("{style}, {order}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_to_startup_value_and_not_to_default() {
        let mut settings = Settings::default();
        settings.start_with("work_mem", "8mb").unwrap();
        settings.set("work_mem", "64MB", false).unwrap();
        settings.reset("work_mem").unwrap();
        assert_eq!(settings.value("work_mem"), Some("8MB"));
    }

    #[test]
    fn keeps_the_half_of_the_date_style_that_is_not_named() {
        let mut settings = Settings::default();
        settings.set("datestyle", "dmy", false).unwrap();
        settings.set("datestyle", "sql", false).unwrap();
        assert_eq!(settings.value("datestyle"), Some("SQL, DMY"));
    }

    #[test]
    fn tells_each_change_of_a_reported_setting_once() {
        let mut settings = Settings::default();
        assert_eq!(settings.take_changes().len(), 12);
        settings.set("timezone", "asia/tokyo", false).unwrap();
        settings.set("work_mem", "1MB", false).unwrap();
        assert_eq!(
            settings.take_changes(),
            [("TimeZone", "Asia/Tokyo".to_owned())]
        );
        assert!(settings.take_changes().is_empty());
    }

    #[test]
    fn returns_to_mark_and_drops_local_values() {
        let mut settings = Settings::default();
        let mark = settings.mark();
        settings.set("app.tenant", "7", false).unwrap();
        settings.set("app.tenant", "8", true).unwrap();
        assert_eq!(settings.value("app.tenant"), Some("8"));
        settings.end_local();
        assert_eq!(settings.value("app.tenant"), Some("7"));
        settings.return_to(&mark);
        assert_eq!(settings.value("app.tenant"), Some(""));
        assert_eq!(settings.value("app.other"), None);
    }
}
