# The agent's steps of a resume, each taken for real in a guest that is there for it: tests/guest/resume-steps.c.

test_resume_steps() {
    guest_run resume-steps
    for step in first_life key_of_tcp clock connections connections_ipv6 many_connections identity secrets generation \
        facts forget; do
        grep -qE "^ok $step.?\$" "$DIR/console" || fail "$(tr -d '\r' <"$DIR/console" | grep -m 1 "not ok $step" || echo "no 'ok $step'")"
    done
}
