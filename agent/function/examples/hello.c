/* hello: greets whom the event names. The smallest whole function. */
#include "agent/function/function.h"

static int greet(void *context, const struct function_event *event, struct function_reply *reply)
{
    (void)context;
    const char *name = event->data;
    size_t size = event->size;
    if (size > 0 && name[size - 1] == '\n')
        size--;
    if (size == 0)
        return function_reply_write(reply, "Hello!", 6);
    function_reply_write(reply, "Hello, ", 7); /* a failure sticks: the last write tells it */
    function_reply_write(reply, name, size);
    return function_reply_write(reply, "!", 1);
}

int main(void)
{
    static const struct function function = {.handle = greet};
    return function_run(&function);
}
