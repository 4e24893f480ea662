//! One thing that was looked at, and what to do about it.

use serde::Serialize;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// Works, and could be better.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) check: &'static str,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, message: message.into(), remedy: None }
    }

    pub(super) fn warn(
        check: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Self { level: Level::Warn, check, message: message.into(), remedy }
    }

    pub(super) fn fail(
        check: &'static str,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, ..Self::warn(check, message, remedy) }
    }

    /// One line, whatever is in it.
    pub(super) fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!(" -> {remedy}"));
        let text = format!("{}{}", self.message, remedy.unwrap_or_default());
        let text: Vec<_> = text.lines().map(str::trim).collect();
        format!("{level:4}  {:11}  {}", self.check, text.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::fail("peer", "a@b.c: broken\n  hint: x", "mend\nit");
        assert_eq!(finding.line(), "FAIL  peer         a@b.c: broken hint: x -> mend it");
        assert_eq!(Finding::ok("clock", "reads").line(), "ok    clock        reads");
    }
}
