-- A live commit's first steps, and a small one whole, in one way there and back. Each statement of such a function sees
-- what was committed before it began: what is compared after the locks is what they protect.

-- Whoever tries the same again waits here for the row of the first try, and then sees its token. The locks come after
-- that; in the other order the two would wait for each other. Key 0 is of no series: all who write to one share it.
CREATE FUNCTION open_live(
    of_writer text, its_token text, lock_key integer, locked integer[], OUT opened_id bigint, OUT is_made_now boolean
) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO live_writers AS w (writer, token, commit_id)
    VALUES (of_writer, its_token, nextval('live_commits'))
        ON CONFLICT (writer) DO UPDATE
       SET token = excluded.token, commit_id = excluded.commit_id
     WHERE w.token <> excluded.token
    RETURNING w.commit_id INTO opened_id;
    is_made_now := FOUND;
    IF NOT is_made_now THEN
        SELECT w.commit_id INTO opened_id FROM live_writers w WHERE w.writer = of_writer;
        RETURN;
    END IF;
    IF cardinality(locked) > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(lock_key, 0);
        PERFORM pg_advisory_xact_lock(lock_key, id) FROM unnest(locked) AS id;
    END IF;
END $$;

-- Opens a commit and stores its ticks. The columns of trades and of quotes are arrays of one length each, in the order in
-- which they came; of trades with a number, those that are stored already are left out. `first_time` and `last_time` are
-- around all trades, so that TimescaleDB opens only the chunks that matter. Whether a trade is stored is one look into
-- the index, whatever a plan made for a small table would prefer; planning anew for each call costs as much as the rest.
CREATE FUNCTION keep_ticks(
    of_writer text, its_token text, lock_key integer, locked integer[], first_time timestamptz, last_time timestamptz,
    trade_series integer[], trade_time timestamptz[], trade_price float8[], trade_size float8[], trade_side integer[],
    trade_id bigint[], trade_flags integer[],
    quote_series integer[], quote_time timestamptz[], quote_bid float8[], quote_bid_size float8[], quote_ask float8[],
    quote_ask_size float8[], OUT opened_id bigint, OUT is_made_now boolean
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    SELECT * INTO opened_id, is_made_now FROM open_live(of_writer, its_token, lock_key, locked);
    IF is_made_now AND cardinality(trade_series) > 0 THEN
        INSERT INTO trades (series_id, time, price, size, side, id, flags, commit_id, place)
        SELECT t.series_id, t.time, t.price, t.size, t.side, t.id, t.flags, opened_id, t.place - 1
          FROM unnest(trade_series, trade_time, trade_price, trade_size, trade_side, trade_id, trade_flags)
               WITH ORDINALITY AS t (series_id, time, price, size, side, id, flags, place)
         WHERE t.id = 0
            OR NOT EXISTS (
                SELECT FROM trades k
                 WHERE k.series_id = t.series_id AND k.time = t.time AND k.id = t.id AND k.flags = t.flags
                   AND k.time >= first_time AND k.time <= last_time);
    END IF;
    IF is_made_now AND cardinality(quote_series) > 0 THEN
        INSERT INTO quotes (series_id, time, bid, bid_size, ask, ask_size, commit_id, place)
        SELECT q.series_id, q.time, q.bid, q.bid_size, q.ask, q.ask_size, opened_id, q.place - 1
          FROM unnest(quote_series, quote_time, quote_bid, quote_bid_size, quote_ask, quote_ask_size)
               WITH ORDINALITY AS q (series_id, time, bid, bid_size, ask, ask_size, place);
    END IF;
END $$;
