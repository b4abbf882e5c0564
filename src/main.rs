//! The `snowglobe` program: starts one member, stops it on a signal, and says how it ended.
//!
//! Exit codes: 0 stopped as asked, or removed from the cluster · 2 the command line, the data folder or an address cannot be
//! used · 5 the member failed.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use snowglobe::config::{self, Command, Config};
use snowglobe::error::{Error, Result};
use snowglobe::host::Host;
use snowglobe::host::os::OsHost;
use snowglobe::server::{self, Server};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

const EXIT_USAGE: u8 = 2;
const EXIT_CRASHED: u8 = 5;

fn main() -> ExitCode {
    // In the simulated build the runtime is another type, and there is no machine under it.
    if std::any::type_name::<tokio::runtime::Runtime>().starts_with("madsim") {
        complain("built for the simulator; use `cargo build`");
        return ExitCode::from(EXIT_USAGE);
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(match error {
                // A supervisor has no reason to start it again.
                Error::Removed(_) => return ExitCode::SUCCESS,
                Error::Config(_) => EXIT_USAGE,
                _ => EXIT_CRASHED,
            })
        }
    }
}

fn run() -> Result<()> {
    match config::parse(std::env::args_os(), &|path| std::fs::read_to_string(path))? {
        Command::Print(text) => {
            // Nobody is left to tell where standard output is closed.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
        Command::Restore { config, file, skip_hash_check } => {
            log_to_stderr("info")?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::io("start the runtime", "", e))?;
            let host: Arc<dyn Host> = Arc::new(OsHost::new());
            runtime.block_on(server::restore(&host, &config, &file, skip_hash_check))
        }
        Command::Serve(config, filter) => {
            log_to_stderr(&filter)?;
            end_on_panic();
            let signals = signals()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            let runtime = runtime.map_err(|e| Error::io("start the runtime", "", e))?;
            runtime.block_on(serve(*config, signals))
        }
    }
}

async fn serve(config: Config, mut signals: mpsc::Receiver<i32>) -> Result<()> {
    let server = tokio::select! {
        biased;
        _ = signals.recv() => return Ok(()),
        server = Server::start(Arc::new(OsHost::new()), config) => server?,
    };
    tokio::select! {
        biased;
        error = server.failed() => return Err(error),
        _ = signals.recv() => {}
    }
    tracing::info!("stopping; a second signal ends the process at once");
    server.stop(true).await;
    tracing::info!("stopped");
    Ok(())
}

/// SIGTERM and SIGINT as messages; the second one ends the process as if it were not caught.
fn signals() -> Result<mpsc::Receiver<i32>> {
    let failed = |cause| Error::io("listen for signals", "", cause);
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let (sender, receiver) = mpsc::channel(1);
    let forward = move || {
        for (earlier, signal) in signals.forever().enumerate() {
            // The receiver is gone where the runtime is: then too the default is what is wanted.
            if earlier > 0 || sender.try_send(signal).is_err() {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
        }
    };
    #[allow(clippy::disallowed_methods, reason = "signals arrive outside of any runtime")]
    std::thread::spawn(forward);
    Ok(receiver)
}

/// A member with a part missing must not go on as if it were whole: any panic ends the process.
fn end_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        signal_hook::low_level::exit(i32::from(EXIT_CRASHED));
    }));
}

fn log_to_stderr(filter: &str) -> Result<()> {
    let filter = EnvFilter::try_new(filter).map_err(|cause| {
        Error::Config(format!("--log-level {filter}: {cause}; try info or info,snowglobe=debug"))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}

fn complain(text: &str) {
    eprintln!("snowglobe: {text}");
}
