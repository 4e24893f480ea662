//! Who reaches whom, as every agent tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::finding::Finding;
use crate::agent::look::Sight;
use crate::node::NodeName;
use crate::reach::{Cell, Matrix, Reach, SINCE, Told, told};
use crate::view::LinkState;

const LEGEND: &str = "+ linked  . no link needed  x no link  - down  = itself  ? did not say  blank: not known there";

/// The matrix out of what was seen, with what is worth saying about it.
pub(super) fn matrix(seen: &BTreeMap<NodeName, Sight>) -> (Matrix, Vec<Finding>) {
    let rows: BTreeMap<&NodeName, &[Reach]> = seen
        .iter()
        .filter_map(|(node, sight)| match sight {
            Sight::Linked(linked) => Some((node, linked.reach.as_deref()?)),
            Sight::Failed { .. } => None,
        })
        .collect();
    let mut nodes: BTreeSet<NodeName> = seen.keys().cloned().collect();
    nodes.extend(rows.values().flat_map(|rows| rows.iter().map(|row| row.node.clone())));
    let lines: BTreeMap<NodeName, Told> =
        rows.iter().map(|(node, rows)| ((*node).clone(), told(rows))).collect();
    let findings = nodes.iter().map(|node| finding(node, rows.get(node), seen.get(node)));
    (Matrix::new(&nodes, &lines), findings.collect())
}

/// For people: numbers across, names down.
pub(super) fn lines(matrix: &Matrix) -> Vec<String> {
    let width = matrix.nodes.iter().map(|node| node.as_str().len()).max().unwrap_or_default();
    let digits = matrix.nodes.len().to_string().len();
    let mut head = " ".repeat(digits + 1 + width);
    for column in 1..=matrix.nodes.len() {
        // Writing to a text cannot fail.
        let _infallible = write!(head, " {column:>digits$}");
    }
    let mut lines = vec![head];
    for (number, row) in matrix.rows.iter().enumerate() {
        let mut line = format!("{:>digits$} {:width$}", number + 1, row.node.as_str());
        for cell in &row.reaches {
            let _infallible = write!(line, " {:>digits$}", sign(*cell));
        }
        lines.push(line);
    }
    lines.push(LEGEND.to_owned());
    lines
}

fn sign(cell: Cell) -> char {
    match cell {
        Cell::Itself => '=',
        Cell::Connected => '+',
        Cell::Idle => '.',
        Cell::None => 'x',
        Cell::Down => '-',
        Cell::Unknown => ' ',
        Cell::Silent => '?',
    }
}

fn finding(node: &NodeName, told: Option<&&[Reach]>, sight: Option<&Sight>) -> Finding {
    let Some(rows) = told else {
        let why = match sight {
            Some(Sight::Linked(linked)) => match &linked.hello {
                Some(hello) if hello.protocol < SINCE => {
                    format!("muster {} does not tell whom it reaches", hello.me.version)
                }
                _ => "did not tell whom it reaches".to_owned(),
            },
            _ => "could not be asked whom it reaches".to_owned(),
        };
        return Finding::warn("reach", format!("{node}: {why}"), "see its peer line");
    };
    let missing: Vec<_> = rows
        .iter()
        .filter(|row| Cell::of(row) == Cell::None)
        .map(|row| match &row.refused {
            Some(why) => format!("{} ({why})", row.node),
            None => row.node.to_string(),
        })
        .collect();
    let linked = rows.iter().filter(|row| row.link == LinkState::Connected).count();
    if missing.is_empty() {
        return Finding::ok("reach", format!("{node}: {linked} linked, and no link is missing"));
    }
    let message = format!("{node}: has no link to {}", missing.join(", "));
    Finding::fail("reach", message, format!("on its host: muster doctor -c emqx.conf ({node})"))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::agent::look::Linked;
    use crate::mesh::DialError;
    use crate::view::MemberStatus;

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn linked(rows: &[(&str, Option<MemberStatus>, LinkState)]) -> Sight {
        let row = |(name, status, link): &(&str, Option<MemberStatus>, LinkState)| Reach {
            node: node(name),
            status: *status,
            link: *link,
            rtt_us: None,
            refused: None,
        };
        Sight::Linked(Box::new(Linked {
            remote: SocketAddr::from(([127, 0, 0, 1], 6370)),
            rtt: None,
            hello: None,
            reach: Some(rows.iter().map(row).collect()),
        }))
    }

    #[test]
    fn every_pair_has_its_sign() {
        use LinkState::{Connected, Idle, None as Missing};
        use MemberStatus::{Down, Up};
        let seen = BTreeMap::from([
            (node("a@h"), linked(&[("b@h", Some(Up), Connected), ("c@h", Some(Up), Missing)])),
            (node("b@h"), linked(&[("a@h", Some(Up), Connected), ("d@h", Some(Down), Idle)])),
            (node("c@h"), Sight::Failed { error: DialError::Timeout, cause: "timeout" }),
        ]);
        let (matrix, findings) = matrix(&seen);
        assert_eq!(
            super::lines(&matrix),
            [
                "      1 2 3 4",
                "1 a@h = + x  ",
                "2 b@h + =   -",
                "3 c@h ? ? = ?",
                "4 d@h ? ? ? =",
                LEGEND,
            ]
        );
        let lines: Vec<_> = findings.iter().map(Finding::line).collect();
        assert_eq!(
            lines[0],
            "FAIL  reach        a@h: has no link to c@h -> on its host: muster doctor -c emqx.conf (a@h)"
        );
        assert_eq!(lines[1], "ok    reach        b@h: 1 linked, and no link is missing");
        assert!(lines[2].starts_with("warn  reach        c@h: could not be asked"));
    }
}
