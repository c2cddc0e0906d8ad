//! `chunkwise help`: the command line, and the language's reference out of `docs/`, whose text is built in.

mod render;

use chunkwise_dsl::{advice, suggest::near};
use clap::Args;
use serde_json::json;

use crate::{
    failure::Failure,
    page::{self, Page},
    print, usage,
};

/// Words for pages, beside the names of their files.
const PAGES: [(&str, &str); 4] =
    [("forms", "laws_and_forms"), ("laws", "laws_and_forms"), ("paper", "from_paper_to_variant"), ("codes", "errors")];

#[derive(Args)]
pub struct Arguments {
    /// A command; language, functions, laws, numbers, packing, paper, commands or errors; or the name of a statement,
    /// function, law, order, locality, draw or error code
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let topic = arguments.topic.join(" ");
    let topic = topic.trim();
    if topic.is_empty() {
        return said(topic, &usage::command().render_long_help().to_string());
    }
    let parts = on(topic);
    if let Some(elsewhere) = advice::function(topic).filter(|_| parts.is_empty()) {
        return print::line(&format!("`{topic}` is called otherwise here: {}", elsewhere.help()));
    }
    if parts.is_empty() {
        let names = names();
        let near = near(topic, names.iter().map(String::as_str));
        let meant = match near.as_slice() {
            [] => "`chunkwise help language` is the whole language, `chunkwise help` the command line".to_string(),
            near => format!("did you mean {}?", near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::wrong(format!("there is no help on `{topic}`; {meant}")));
    }
    said(topic, &parts.join("\n\n\n"))
}

fn said(topic: &str, text: &str) -> Result<(), Failure> {
    let text = text.trim_end();
    print::line(&if print::json() { json!({"topic": topic, "text": text}).to_string() } else { text.to_string() })
}

/// All that is said on a topic: the command's flags, a page, sections, rows of tables.
fn on(topic: &str) -> Vec<String> {
    let mut parts = Vec::new();
    if let Ok(mut command) = usage::subcommand(topic) {
        parts.push(command.render_long_help().to_string().trim_end().to_string());
    }
    let name = PAGES.iter().find(|(word, _)| *word == topic).map_or(topic, |(_, name)| name);
    if let Some(page) = Page::ALL.iter().find(|page| page.name == name) {
        parts.push(render::text(page.text));
        return parts;
    }
    for page in Page::ALL {
        // A command's section is its help once more.
        if page.name != Page::COMMANDS.name {
            let sections = page.sections().into_iter().filter(|section| section.is_called(topic));
            parts.extend(sections.map(|section| render::text(section.text)));
        }
        parts.extend(page.rows().iter().filter(|row| row.is_called(topic)).map(render::row));
    }
    parts
}

/// Every topic.
fn names() -> Vec<String> {
    let mut names: Vec<String> = Page::ALL.iter().map(|page| page.name.to_string()).collect();
    names.extend(PAGES.iter().map(|(word, _)| word.to_string()));
    names.extend(usage::command().get_subcommands().map(|command| command.get_name().to_string()));
    for page in Page::ALL {
        names.extend(page.sections().iter().flat_map(page::Section::names));
        names.extend(page.rows().iter().flat_map(page::Row::names));
    }
    names.sort_unstable();
    names.dedup();
    names
}
