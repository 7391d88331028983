/* Stands in for the agent and ends at once, every time it is started: init must give up on it. */
int main(void)
{
    return 3;
}
