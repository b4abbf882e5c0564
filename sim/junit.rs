//! A sweep's results in the XML that CI servers read.

use crate::outcome::{Summary, Verdict};

/// The report, line by line.
#[must_use]
pub fn lines(summaries: &[Summary]) -> Vec<String> {
    let failures = summaries.iter().filter(|summary| summary.verdict != Verdict::Kept).count();
    let mut lines = vec![
        r#"<?xml version="1.0" encoding="UTF-8"?>"#.to_string(),
        format!(
            r#"<testsuite name="sim sweep" tests="{}" failures="{failures}">"#,
            summaries.len()
        ),
    ];
    for summary in summaries {
        let head = format!(
            r#"<testcase classname="{}" name="seed {}" time="{:.3}""#,
            escape(&summary.scenario),
            summary.seed,
            summary.wall_s
        );
        if summary.verdict == Verdict::Kept {
            lines.push(format!("{head}/>"));
            continue;
        }
        let rule = summary.rule.as_deref().unwrap_or(summary.verdict.name());
        lines.push(format!("{head}>"));
        lines.push(format!(
            r#"<failure type="{}" message="{}">"#,
            summary.verdict.name(),
            escape(rule)
        ));
        lines.push(escape(&summary.to_text()));
        lines.push("</failure></testcase>".to_string());
    }
    lines.push("</testsuite>".to_string());
    lines
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
