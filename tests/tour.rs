//! What the documents show is what psql says: each block marked ```` ```sql ROLE ```` is run as
//! that role, in the order of the document and against a server of its own, and the ```` ```text ````
//! block behind it must be the answer to the letter (but for blanks at the ends of lines).
//! With `FREEHOLD_UPDATE=docs` the answers are written into the documents, to be read and judged.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::{Place, Program, Security, postgres_tool, report};

/// A block of statements with its answer, and where the answer stands in the document.
struct Block {
    line: usize,
    role: String,
    sql: String,
    expected: String,
    /// First line of the answer and the line behind its last one.
    answer: (usize, usize),
}

/// A fence's word (`sql orders`, `text`, `sh`, ...) with the lines between its marks.
struct Fence {
    word: String,
    first: usize,
    end: usize,
}

fn fences(lines: &[&str]) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (number, line) in lines.iter().enumerate() {
        let Some(word) = line.strip_prefix("```") else {
            continue;
        };
        match open.take() {
            Some((word, first)) => fences.push(Fence {
                word,
                first,
                end: number,
            }),
            None => open = Some((word.trim().to_owned(), number + 1)),
        }
    }
    assert!(open.is_none(), "a fence is not closed");
    fences
}

fn blocks(document: &str, lines: &[&str]) -> Vec<Block> {
    let fences = fences(lines);
    let mut blocks = Vec::new();
    for (number, fence) in fences.iter().enumerate() {
        let Some(role) = fence.word.strip_prefix("sql") else {
            continue;
        };
        let (role, line) = (role.trim(), fence.first);
        assert!(!role.is_empty(), "{document}:{line}: as which role?");
        let answer = fences.get(number + 1).filter(|next| next.word == "text");
        let answer = answer.unwrap_or_else(|| panic!("{document}:{line}: there is no answer"));
        blocks.push(Block {
            line,
            role: role.to_owned(),
            sql: lines[fence.first..fence.end].join("\n"),
            expected: tidy(&lines[answer.first..answer.end].join("\n")),
            answer: (answer.first, answer.end),
        });
    }
    blocks
}

/// Without blanks at the ends of lines and empty lines at the end.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

/// What psql shows, errors in their place.
fn psql(place: &Place, block: &Block) -> Option<String> {
    let (mut reading, writing) = std::io::pipe().expect("a pipe");
    let mut psql = Command::new(postgres_tool("psql")?);
    place.environment(&mut psql, &block.role);
    let mut child = psql
        .arg("-X")
        .stdin(Stdio::piped())
        .stdout(writing.try_clone().expect("a pipe has two ends"))
        .stderr(writing)
        .spawn()
        .expect("psql starts");
    // The command holds the writing ends as long as it lives.
    drop(psql);
    let sql = format!("{}\n", block.sql);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::io::Write::write_all(&mut stdin, sql.as_bytes()).expect("psql reads");
    drop(stdin);
    let mut said = String::new();
    std::io::Read::read_to_string(&mut reading, &mut said).expect("psql writes UTF-8");
    child.wait().expect("psql ends");
    Some(tidy(&said))
}

fn follow(document: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(document);
    let text = std::fs::read_to_string(&path).expect("the document is there");
    let lines: Vec<&str> = text.lines().collect();
    let blocks = blocks(document, &lines);
    assert!(!blocks.is_empty(), "{document} shows nothing");
    let program = Program::start_with(Security::Passwords, &[]);
    let (mut wrong, mut answers) = (String::new(), Vec::new());
    for block in &blocks {
        let Some(said) = psql(program.place(), block) else {
            return;
        };
        if said != block.expected {
            wrong += &format!(
                "--- {document}:{} as {}\n{}\n--- the document\n{}\n--- psql\n{said}\n",
                block.line, block.role, block.sql, block.expected
            );
        }
        answers.push((block.answer, said));
    }
    report("statements of the documents", blocks.len());
    if std::env::var_os("FREEHOLD_UPDATE").is_some_and(|what| what == "docs") {
        let mut new: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        for ((first, end), said) in answers.into_iter().rev() {
            new.splice(first..end, said.lines().map(str::to_owned));
        }
        std::fs::write(&path, new.join("\n") + "\n").expect("the document can be written");
        return;
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn the_readme_tells_the_truth() {
    follow("README.md");
}

#[test]
fn the_sql_page_tells_the_truth() {
    follow("docs/sql.md");
}

#[test]
fn the_operators_page_tells_the_truth() {
    follow("docs/operate.md");
}
