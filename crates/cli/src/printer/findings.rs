//! Renders findings: the one form in which everything that is wrong is shown.

use super::page::{Page, Paint};
use pgproof_base::{Finding, RiskClass, Severity};

/// The worst severity among findings.
pub(crate) fn worst(findings: &[Finding]) -> Option<Severity> {
    findings.iter().map(|finding| finding.severity).max()
}

/// Writes findings, worst first, in their own order within a severity.
pub(crate) fn render_findings(page: &mut Page, findings: &[Finding]) {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        render_finding(page, finding);
    }
}

/// Writes one finding.
pub(crate) fn render_finding(page: &mut Page, finding: &Finding) {
    let (word, paint) = match finding.severity {
        Severity::Info => ("info", Paint::Bold),
        Severity::Warning => ("warning", Paint::Warning),
        Severity::Critical => ("critical", Paint::Bad),
    };
    page.gap();
    let word = page.paint(paint, word);
    page.line(format!("{word} [{}] {}", finding.code, finding.seen));
    page.line(format!("  why: {}", finding.why));
    for remedy in &finding.remedies {
        let risk = match remedy.risk {
            RiskClass::Safe => "",
            RiskClass::Disruptive => " (interrupts service)",
            RiskClass::Destructive => " (removes or overwrites)",
        };
        page.line(format!("  remedy{risk}: {}", remedy.what));
        for line in remedy.command.lines() {
            page.line(format!("      {line}"));
        }
        if let Some(keep) = &remedy.keep {
            page.line(format!("    keep first: {keep}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use pgproof_base::Remedy;

    #[test]
    fn findings_are_shown_worst_first_with_their_commands() {
        let findings = [
            Finding::new("checksums-off", Severity::Info, "data checksums are off", "damage is found late"),
            Finding::new("archive-off", Severity::Critical, "archive_mode is off", "nothing is archived")
                .with(Remedy::disruptive("turn it on and restart", "ALTER SYSTEM SET archive_mode = on;")),
        ];
        let mut page = Page::new(false, false);
        render_findings(&mut page, &findings);
        expect![[r#"
            critical [archive-off] archive_mode is off
              why: nothing is archived
              remedy (interrupts service): turn it on and restart
                  ALTER SYSTEM SET archive_mode = on;

            info [checksums-off] data checksums are off
              why: damage is found late
        "#]]
        .assert_eq(&page.into_text());
        assert_eq!(worst(&findings), Some(Severity::Critical));
    }
}
