// What every program costs; the others are measured against it.
int main() { return 0; }
