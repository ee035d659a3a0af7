//! Tables in Docker's layout, and lists that are a table, a template or JSON as `--format` says.
//!
//! A cell belongs to a column only when a tab ends it, so the last cell of a line never widens anything; a column is as
//! wide as its widest cell among neighbouring lines, plus three blanks, and at least ten.
use crate::template::evaluate;
use crate::template::parse;
use crate::template::value::Value;

const PADDING: usize = 3;
/// The narrowest column of a list.
pub const LIST_WIDTH: usize = 10;

/// Aligns lines whose cells are separated by tabs.
pub fn align(text: &str, minimum: usize) -> String {
    let lines: Vec<Vec<&str>> = text.split('\n').map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines
        .iter()
        .map(|cells| vec![0; cells.len().saturating_sub(1)])
        .collect();
    let deepest = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..deepest {
        let mut line = 0;
        while line < lines.len() {
            // A run of neighbouring lines that all have this column shares one width.
            let run = widths[line..].iter().take_while(|cells| cells.len() > column).count();
            let widest = lines[line..line + run]
                .iter()
                .map(|cells| cells[column].chars().count())
                .max();
            let width = widest.map_or(0, |widest| (widest + PADDING).max(minimum));
            for cells in &mut widths[line..line + run] {
                cells[column] = width;
            }
            line += run.max(1);
        }
    }
    let aligned: Vec<String> = lines
        .iter()
        .zip(&widths)
        .map(|(cells, widths)| align_line(cells, widths))
        .collect();
    aligned.join("\n")
}

fn align_line(cells: &[&str], widths: &[usize]) -> String {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        line.push_str(cell);
        if let Some(width) = widths.get(at) {
            line.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
        }
    }
    line
}

/// How a list is shown.
pub struct Listing<'a> {
    /// The columns shown when nothing else is asked for: `{{.ID}}\t{{.Names}}`.
    pub columns: &'a str,
    /// The heading of every column that a template may name.
    pub headings: &'a [(&'a str, &'a str)],
    /// What `--quiet` shows.
    pub quiet: &'a str,
}

impl Listing<'_> {
    /// The whole text for `rows`, each a map from column to text.
    pub fn show(&self, format: Option<&str>, quiet: bool, rows: &[Value]) -> Result<String, String> {
        let format = match format {
            None | Some("" | "table") if quiet => self.quiet.to_string(),
            None | Some("" | "table") => format!("table {}", self.columns),
            Some("json") => "{{json .}}".to_string(),
            Some(format) => format.replace("\\t", "\t").replace("\\n", "\n"),
        };
        let (is_table, body) = match format.strip_prefix("table") {
            Some(body) => (true, body.trim_start_matches(' ')),
            None => (false, format.as_str()),
        };
        let template = parse::parse(body).map_err(evaluate::parse_error)?;
        let mut text = String::new();
        if is_table {
            let headings = Value::map(self.headings.iter().copied());
            text.push_str(&evaluate::execute_headings(&template, &headings)?);
            text.push('\n');
        }
        for row in rows {
            text.push_str(&evaluate::execute(&template, &row.clone().into_row())?);
            text.push('\n');
        }
        Ok(if is_table { align(&text, LIST_WIDTH) } else { text })
    }
}

/// Shortens to `width` characters, the last one being `…`.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// The first twelve digits of an id, without the name of the hash.
pub fn short_id(id: &str) -> String {
    let hex = id.split_once(':').map_or(id, |(_, hex)| hex);
    hex.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_at_least_ten() {
        assert_eq!(
            align("A\tB\tC\na\tlonger than ten\tc\n", 10),
            "A         B                 C\na         longer than ten   c\n"
        );
    }

    #[test]
    fn a_line_without_the_column_ends_the_run() {
        assert_eq!(
            align("aaaaaaaaaaaa\tx\nplain\nb\ty\n", 4),
            "aaaaaaaaaaaa   x\nplain\nb   y\n"
        );
    }

    #[test]
    fn a_listing_is_a_table_a_template_or_json() {
        let listing = Listing {
            columns: "{{.ID}}\t{{.Names}}",
            headings: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
            quiet: "{{.ID}}",
        };
        let rows = [Value::map([("ID", "1"), ("Names", "web")])];
        let show = |format, quiet| listing.show(format, quiet, &rows).unwrap();
        assert_eq!(show(None, false), "CONTAINER ID   NAMES\n1              web\n");
        assert_eq!(show(None, true), "1\n");
        assert_eq!(show(Some("json"), false), "{\"ID\":\"1\",\"Names\":\"web\"}\n");
        assert_eq!(
            show(Some("table {{.Names}}\\t{{.ID}}"), true),
            "NAMES     CONTAINER ID\nweb       1\n"
        );
        assert_eq!(show(Some("{{.Names}}!"), false), "web!\n");
        let conditional = "table {{.ID}}{{if .Nothing}}*{{end}}";
        assert_eq!(listing.show(Some(conditional), false, &[]).unwrap(), "CONTAINER ID\n");
    }

    #[test]
    fn rows_as_json_are_fit_for_a_page() {
        let listing = Listing {
            columns: "{{.Ports}}",
            headings: &[],
            quiet: "{{.Ports}}",
        };
        let rows = [Value::map([("Ports", "8080->80/tcp & <none>")])];
        let show = |format| listing.show(Some(format), false, &rows).unwrap();
        assert_eq!(
            show("json"),
            "{\"Ports\":\"8080-\\u003e80/tcp \\u0026 \\u003cnone\\u003e\"}\n"
        );
        assert_eq!(show("{{json .Ports}}"), "\"8080->80/tcp & <none>\"\n");
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("0123456789", 5), "0123…");
        assert_eq!(ellipsis("01234", 5), "01234");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
    }
}
