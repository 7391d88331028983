/*
 * One-line diagnostics on standard error: "program: level: message\n".
 *
 * Each message is formatted into one buffer of LOG_LINE_MAX bytes and written with one write(2), so that
 * lines of two threads or processes do not mix. Longer messages are cut. No allocation; safe from any thread.
 * An error message says what was wrong, where, and what to do.
 */
#ifndef AGENT_BASE_LOG_H
#define AGENT_BASE_LOG_H

#define LOG_LINE_MAX 1024

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* Set once, before other threads start. `program` must outlive the process. Default: "rekindle",
 * LOG_LEVEL_INFO, fd 2. */
void log_setup(const char *program, enum log_level most, int fd);

/* From now on up to this level. Any thread. */
void log_set_most(enum log_level most);
/*
 * Hand each message, as text without a newline, to `sink` instead; NULL: to the descriptor again. For the
 * caller's own form of lines: it writes them itself, on whatever thread the message is of.
 */
typedef void log_sink(enum log_level level, const char *program, const char *message);
void log_to(log_sink *sink);

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
