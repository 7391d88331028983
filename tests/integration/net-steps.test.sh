# The guest's interfaces, set by the agent's code in a guest that is there for it and asks the kernel what came of it:
# tests/guest/net-steps.c. Nothing is at the other end of the wires.

test_net_steps() {
    guest_run net-steps --net none --net none
    for step in nothing missing begin same clone announced_again started_again back refused afresh; do
        grep -qE "^ok $step.?\$" "$DIR/console" || fail "$(tr -d '\r' <"$DIR/console" | grep -m 1 "not ok $step" || echo "no 'ok $step'")"
    done
}
