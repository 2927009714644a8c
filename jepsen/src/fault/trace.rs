//! Reads the system calls of a server from strace's output: what it wrote, synced, named and
//! removed below its data folder, in which order.

use std::collections::HashMap;

/// System calls that change files or make changes durable.
pub const CALLS: &str = "openat,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,\
    rename,renameat,renameat2,unlink,unlinkat,ftruncate,fallocate,lseek,close,dup,dup3,fcntl,\
    mkdir,mkdirat";

/// Bytes of written data that the trace shows: enough to know zeros from anything else.
pub const SHOWN_BYTES: usize = 32;

/// Names one call from its start to its end.
pub type CallId = usize;

/// What a trace says, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A call began that writes `length` bytes (0 if only its end tells) at `offset` (`None`:
    /// where the descriptor stands).
    Write {
        /// Which call.
        call: CallId,
        /// Descriptor.
        fd: i32,
        /// File.
        path: String,
        /// Where.
        offset: Option<u64>,
        /// How much.
        length: u64,
        /// Whether what is shown of the bytes is zero.
        zeros: bool,
    },
    /// A call began that makes a file durable.
    Sync {
        /// Which call.
        call: CallId,
        /// File or folder.
        path: String,
    },
    /// A file was opened, and perhaps made.
    Open {
        /// Descriptor.
        fd: i32,
        /// File.
        path: String,
        /// O_CREAT.
        creates: bool,
        /// O_TRUNC.
        truncates: bool,
        /// O_APPEND.
        appends: bool,
    },
    /// A descriptor is another one's twin.
    Duplicate {
        /// The first.
        from: i32,
        /// The other.
        to: i32,
    },
    /// A descriptor is where the call says.
    Seek {
        /// Descriptor.
        fd: i32,
        /// Offset from the begin.
        offset: u64,
    },
    /// A file has another length.
    Resize {
        /// File.
        path: String,
        /// Bytes.
        length: u64,
        /// Whether the call can only lengthen.
        only_longer: bool,
    },
    /// A file has another name.
    Rename {
        /// Before.
        from: String,
        /// After.
        to: String,
    },
    /// A name is gone.
    Remove {
        /// Which.
        path: String,
    },
    /// A call named before has ended with this result.
    Ended {
        /// Which.
        call: CallId,
        /// What it returned; negative for an error.
        result: i64,
    },
}

/// Parses a whole trace (`strace -f -y -o FILE`).
pub fn parse(text: &str) -> Vec<Event> {
    let mut events = Vec::new();
    let mut open: HashMap<&str, (String, Option<CallId>)> = HashMap::new();
    let mut next: CallId = 0;
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else {
            continue;
        };
        let rest = rest.trim_start();
        if let Some(resumed) = rest.strip_prefix("<... ") {
            let Some((begin, call)) = open.remove(pid) else {
                continue;
            };
            let Some((_, end)) = resumed.split_once(" resumed>") else {
                continue;
            };
            finish(&format!("{begin}{end}"), call, &mut events);
        } else if let Some(begin) = rest.strip_suffix(" <unfinished ...>") {
            let call = start(begin, next, &mut events);
            next += 1;
            open.insert(pid, (begin.to_owned(), call));
        } else if rest.contains('(') {
            let call = start(rest, next, &mut events);
            next += 1;
            finish(rest, call, &mut events);
        }
    }
    events
}

/// What a call does from its start on. Its id if its end matters to it.
fn start(text: &str, call: CallId, events: &mut Vec<Event>) -> Option<CallId> {
    let (name, arguments) = text.split_once('(')?;
    let event = match name {
        "write" | "writev" => written(call, arguments, false),
        "pwrite64" | "pwritev" | "pwritev2" => written(call, arguments, true),
        "fsync" | "fdatasync" => descriptor(arguments).map(|(_, path)| Event::Sync {
            call,
            path: path.to_owned(),
        }),
        _ => None,
    }?;
    events.push(event);
    Some(call)
}

/// What a call has done at its end.
fn finish(text: &str, call: Option<CallId>, events: &mut Vec<Event>) {
    let Some((begin, result)) = text.rsplit_once(" = ") else {
        return;
    };
    let digits = result.split(['<', ' ']).next().unwrap_or("");
    let Ok(result) = digits.parse::<i64>() else {
        return;
    };
    if let Some(call) = call {
        return events.push(Event::Ended { call, result });
    }
    if result < 0 {
        return;
    }
    let Some((name, arguments)) = begin.split_once('(') else {
        return;
    };
    events.extend(done(name, arguments.trim_end(), result, text));
}

/// Calls that count once they have succeeded.
fn done(name: &str, arguments: &str, result: i64, text: &str) -> Option<Event> {
    match name {
        "openat" | "creat" => opened(name, arguments, result, text),
        "dup" | "dup3" => Some(Event::Duplicate {
            from: descriptor(arguments)?.0,
            to: result as i32,
        }),
        "fcntl" if arguments.contains("F_DUPFD") => Some(Event::Duplicate {
            from: descriptor(arguments)?.0,
            to: result as i32,
        }),
        "lseek" => Some(Event::Seek {
            fd: descriptor(arguments)?.0,
            offset: result as u64,
        }),
        "ftruncate" => Some(Event::Resize {
            path: descriptor(arguments)?.1.to_owned(),
            length: last_number(arguments)?,
            only_longer: false,
        }),
        "fallocate" => allocated(arguments),
        "rename" | "renameat" | "renameat2" => {
            let mut names = quoted(arguments);
            Some(Event::Rename {
                from: names.next()?,
                to: names.next()?,
            })
        }
        "unlink" | "unlinkat" => removed(arguments),
        _ => None,
    }
}

fn written(call: CallId, arguments: &str, placed: bool) -> Option<Event> {
    let (fd, path) = descriptor(arguments)?;
    let numbers = arguments
        .rsplit_once(" = ")
        .map_or(arguments, |(before, _)| before);
    let numbers = numbers.trim_end().trim_end_matches(')');
    let mut tail = numbers
        .rsplit(", ")
        .map(|number| number.parse::<u64>().ok());
    let is_vector = numbers.contains("[{iov_base");
    let offset = if placed { Some(tail.next()??) } else { None };
    let length = if is_vector { 0 } else { tail.next()?? };
    let zeros = shown_zeros(arguments);
    Some(Event::Write {
        call,
        fd,
        path: path.to_owned(),
        offset,
        length,
        zeros,
    })
}

/// Whether the shown begin of the data is zeros only: strace writes them as `\0`.
fn shown_zeros(arguments: &str) -> bool {
    let Some(begin) = arguments.find('"') else {
        return false;
    };
    let shown = &arguments[begin + 1..];
    let Some(end) = shown.find('"') else {
        return false;
    };
    end > 0 && shown[..end].replace("\\0", "").is_empty()
}

fn opened(name: &str, arguments: &str, result: i64, text: &str) -> Option<Event> {
    // The descriptor's own path is absolute: `= 5</data/file>`.
    let (_, shown) = text.rsplit_once('<')?;
    let path = shown.split('>').next()?.to_owned();
    let has = |flag: &str| arguments.contains(flag);
    if !has("O_WRONLY") && !has("O_RDWR") && !has("O_CREAT") && name != "creat" {
        return None;
    }
    Some(Event::Open {
        fd: result as i32,
        path,
        creates: has("O_CREAT") || name == "creat",
        truncates: has("O_TRUNC") || name == "creat",
        appends: has("O_APPEND"),
    })
}

fn allocated(arguments: &str) -> Option<Event> {
    let (_, path) = descriptor(arguments)?;
    let mut parts = arguments.trim_end_matches(')').split(", ").skip(1);
    if parts.next()? != "0" {
        return None;
    }
    let offset: u64 = parts.next()?.parse().ok()?;
    let length: u64 = parts.next()?.parse().ok()?;
    Some(Event::Resize {
        path: path.to_owned(),
        length: offset + length,
        only_longer: true,
    })
}

fn removed(arguments: &str) -> Option<Event> {
    let name = quoted(arguments).next()?;
    if name.starts_with('/') {
        return Some(Event::Remove { path: name });
    }
    let (_, folder) = descriptor(arguments)?;
    Some(Event::Remove {
        path: format!("{folder}/{name}"),
    })
}

/// The leading `5</data/file>`.
fn descriptor(arguments: &str) -> Option<(i32, &str)> {
    let (fd, rest) = arguments.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    let fd = if fd == "AT_FDCWD" {
        -100
    } else {
        fd.parse().ok()?
    };
    Some((fd, path))
}

fn last_number(arguments: &str) -> Option<u64> {
    arguments
        .trim_end_matches(')')
        .rsplit(", ")
        .next()?
        .parse()
        .ok()
}

/// The quoted file names among the arguments. Data folders have no quotes in their names.
fn quoted(arguments: &str) -> impl Iterator<Item = String> + '_ {
    arguments.split('"').skip(1).step_by(2).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_read() {
        let text = concat!(
            "11 openat(AT_FDCWD</w>, \"/d/a\", O_RDWR|O_CREAT|O_CLOEXEC, 0666) = 5</d/a>\n",
            "11 pwrite64(5</d/a>, \"\\0\\0\\0\"..., 4096, 8192) = 4096\n",
            "12 fdatasync(5</d/a> <unfinished ...>\n",
            "11 write(5</d/a>, \"ab\\0\", 3) = 3\n",
            "12 <... fdatasync resumed>)          = 0\n",
            "11 fcntl(5</d/a>, F_DUPFD_CLOEXEC, 3) = 9</d/a>\n",
            "11 ftruncate(5</d/a>, 100)           = 0\n",
            "11 rename(\"/d/a\", \"/d/b\")           = 0\n",
            "11 unlink(\"/d/c\")                   = -1 ENOENT (No such file or directory)\n",
            "11 unlinkat(7</d>, \"c\", 0)           = 0\n",
            "12 +++ killed by SIGKILL +++\n",
        );
        let path = || "/d/a".to_owned();
        let expected = vec![
            Event::Open {
                fd: 5,
                path: path(),
                creates: true,
                truncates: false,
                appends: false,
            },
            Event::Write {
                call: 1,
                fd: 5,
                path: path(),
                offset: Some(8192),
                length: 4096,
                zeros: true,
            },
            Event::Ended {
                call: 1,
                result: 4096,
            },
            Event::Sync {
                call: 2,
                path: path(),
            },
            Event::Write {
                call: 3,
                fd: 5,
                path: path(),
                offset: None,
                length: 3,
                zeros: false,
            },
            Event::Ended { call: 3, result: 3 },
            Event::Ended { call: 2, result: 0 },
            Event::Duplicate { from: 5, to: 9 },
            Event::Resize {
                path: path(),
                length: 100,
                only_longer: false,
            },
            Event::Rename {
                from: path(),
                to: "/d/b".into(),
            },
            Event::Remove {
                path: "/d/c".into(),
            },
        ];
        assert_eq!(parse(text), expected);
    }
}
