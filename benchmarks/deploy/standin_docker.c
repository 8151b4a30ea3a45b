/* A stand-in for Docker and Compose. It answers like Docker on a node where the release already runs, and
 * does nothing. It sleeps as long as Docker's programs take on a real host (docs/benchmarks.md lists the
 * times). It is compiled because fifty nodes and the deploy share this machine: as a shell script that runs
 * sleep, it took a fifth of all processor time, which would not happen on separate hosts. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define IMAGE "ghcr.io/ktrdr/ktrdr-backend"
#define CONTAINER(id, service, hash) \
    "{\"id\":\"" id "\",\"image\":\"sha256:1\",\"name\":\"" IMAGE ":@T\",\"restarts\":0," \
    "\"created\":\"2026-01-01T00:00:00.0Z\",\"labels\":{\"com.docker.compose.service\":\"" service "\"," \
    "\"com.docker.compose.config-hash\":\"" hash "\",\"com.docker.compose.image\":\"sha256:1\"}," \
    "\"state\":{\"Status\":\"running\",\"StartedAt\":\"2026-01-01T00:00:00.0Z\",\"ExitCode\":0," \
    "\"Health\":{\"Status\":\"healthy\",\"Log\":[{\"Output\":\"" \
    "{\\\"version\\\":\\\"@T\\\",\\\"registered\\\":true,\\\"contracts\\\":[]}\"}]}}}\n"

/* The first matching pattern is used. In answers, @T is the tag and @D the directory. */
static const struct {
    const char *pattern;
    int milliseconds;
    const char *answer;
} known[] = {
    {"info*", 45, "28.3.0 v5.6.1 @D\n"},
    {"compose* config --hash *", 100, "backtest-worker-1 h1\ntraining-worker-1 h2\n"},
    {"compose* config *", 100, ""},
    {"compose*", 50, ""},
    {"image inspect --format {{.Id}} {{*", 25,
     "sha256:1 - linux/amd64 {\"id\":\"sha256:1\",\"digests\":[\"" IMAGE "@sha256:1\"],\"descriptor\":null}\n"},
    {"image inspect --format {{.Id}} *", 25, "sha256:1\n"},
    {"image*", 25, ""},
    {"run *", 400, ""},
    {"ps --quiet*", 25, ""},
    {"ps --all --quiet*status=exited*", 25, ""},
    {"ps --all --quiet*", 25, "c1\nc2\n"},
    {"ps --all --format*", 25, ""},
    {"inspect*", 25, CONTAINER("c1", "backtest-worker-1", "h1") CONTAINER("c2", "training-worker-1", "h2")},
};

static void print(const char *answer)
{
    for (; *answer; answer++) {
        if (*answer != '@')
            putchar(*answer);
        else if (*++answer == 'T')
            fputs(getenv("CROWD_TAG"), stdout);
        else if (*answer == 'D')
            fputs(getenv("CROWD_DIRECTORY"), stdout);
        else
            printf("@%c", *answer);
    }
}

int main(int count, char **arguments)
{
    char line[65536] = "";
    size_t used = 0;
    for (int i = 1; i < count && used < sizeof line; i++)
        used += snprintf(line + used, sizeof line - used, i > 1 ? " %s" : "%s", arguments[i]);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (fnmatch(known[i].pattern, line, 0))
            continue;
        print(known[i].answer);
        struct timespec pause = {0, known[i].milliseconds * 1000000L};
        nanosleep(&pause, NULL);
        return 0;
    }
    fprintf(stderr, "the stand-in for Docker does not know: %s\n", line);
    return 64;
}
