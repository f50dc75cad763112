/* Links: see CMakeLists.txt. */
int main(void) { return 0; }
