"""The commands, one module each: `run(args) -> exit code`. They ask the server over HTTP, as any client would."""
