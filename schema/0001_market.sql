-- What is stored: who gives data (providers), of what (instruments, series), the bars, where each came from (batches),
-- what is known of every range (coverage), what was known before (bar_revisions), what was refused (quarantine).
-- Every instant is UTC; a bar's time is the OPENING instant of its period; ranges are half-open.

CREATE TABLE providers (
    id           integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    slug         text        NOT NULL UNIQUE,
    name         text        NOT NULL,
    version      text        NOT NULL,
    enabled      boolean     NOT NULL,
    config       jsonb       NOT NULL,
    capabilities jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE instruments (
    id          integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    symbol      text        NOT NULL UNIQUE,
    asset_class text        NOT NULL,
    name        text        NOT NULL DEFAULT '',
    currency    text        NOT NULL DEFAULT '',
    exchange    text        NOT NULL DEFAULT '',
    timezone    text        NOT NULL DEFAULT '',
    metadata    jsonb       NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN instruments.symbol IS 'canonical: AAPL, BTC-USD, EUR-USD, ^GSPC';

CREATE TABLE series (
    id            integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    instrument_id integer NOT NULL REFERENCES instruments,
    provider      text    NOT NULL,
    interval      text    NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (instrument_id, provider, interval)
);
COMMENT ON COLUMN series.provider IS 'slug; a series outlives its provider';

CREATE TABLE batches (
    id         bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    series_id  integer     NOT NULL REFERENCES series,
    covers     tstzrange   NOT NULL,
    outcome    text        NOT NULL,
    reason     text        NOT NULL,
    fetched_at timestamptz NOT NULL,
    stored_at  timestamptz NOT NULL DEFAULT now(),
    bars       integer     NOT NULL,
    why        text        NOT NULL DEFAULT '',
    warnings   text[]      NOT NULL DEFAULT '{}'
);
CREATE INDEX batches_by_series ON batches (series_id, id);
COMMENT ON COLUMN batches.reason IS 'live | history | backfill | refresh | import';

-- Column order wastes no padding: 62 bytes of data, 88 with the header, whether batch_id has 4 bytes or 8.
-- No foreign keys: they would cost more per row than the row itself.
CREATE TABLE bars (
    time      timestamptz      NOT NULL,
    open      double precision NOT NULL,
    high      double precision NOT NULL,
    low       double precision NOT NULL,
    close     double precision NOT NULL,
    volume    double precision NOT NULL,
    batch_id  bigint           NOT NULL,
    series_id integer          NOT NULL,
    flags     smallint         NOT NULL,
    PRIMARY KEY (series_id, time)
);
COMMENT ON COLUMN bars.flags IS 'bits: 1 forming, 2 revised, 4 repaired, 8 backfilled; 0 a closed bar as first given';

CREATE TABLE bar_revisions (
    time        timestamptz      NOT NULL,
    open        double precision NOT NULL,
    high        double precision NOT NULL,
    low         double precision NOT NULL,
    close       double precision NOT NULL,
    volume      double precision NOT NULL,
    batch_id    bigint           NOT NULL,
    series_id   integer          NOT NULL,
    flags       smallint         NOT NULL,
    replaced_by bigint           NOT NULL,
    replaced_at timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (series_id, time, replaced_by)
);
COMMENT ON TABLE bar_revisions IS 'closed bars as they were before batch replaced_by changed them';

CREATE TABLE coverage (
    series_id integer        NOT NULL REFERENCES series,
    outcome   text           NOT NULL,
    noted_at  timestamptz    NOT NULL,
    ranges    tstzmultirange NOT NULL,
    PRIMARY KEY (series_id, outcome, noted_at)
);
COMMENT ON COLUMN coverage.noted_at IS 'to the hour for refused ranges, which are asked again after a day; else the epoch';

CREATE TABLE quarantine (
    time      timestamptz      NOT NULL,
    open      double precision NOT NULL,
    high      double precision NOT NULL,
    low       double precision NOT NULL,
    close     double precision NOT NULL,
    volume    double precision NOT NULL,
    batch_id  bigint           NOT NULL,
    series_id integer          NOT NULL,
    rule      text             NOT NULL
);
CREATE INDEX quarantine_by_series ON quarantine (series_id, time);

CREATE TABLE corporate_actions (
    instrument_id integer          NOT NULL REFERENCES instruments,
    provider      text             NOT NULL,
    ex_date       date             NOT NULL,
    kind          text             NOT NULL,
    value         double precision NOT NULL,
    currency      text             NOT NULL,
    noted_at      timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (instrument_id, provider, ex_date, kind)
);

CREATE TABLE budgets (
    id       bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    provider text        NOT NULL,
    at       timestamptz NOT NULL,
    n        integer     NOT NULL,
    key      text        NOT NULL DEFAULT ''
);
CREATE INDEX budgets_by_time ON budgets (at);
COMMENT ON TABLE budgets IS 'requests sent to providers, so that rate limits hold across a restart';
