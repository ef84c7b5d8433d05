// One launch for many arrays (items.py): a table has a row for each, whose last number is the first
// item of its work, and behind them a row that tells the number of all items alone.

template <class Row> __device__ __forceinline__ long long all_items(const Row* table, int rows) {
  return table[rows].first_item;
}

// The row whose work an item is.
template <class Row>
__device__ __forceinline__ Row row_of(const Row* table, int rows, long long item) {
  int low = 0, high = rows;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (table[middle].first_item <= item) low = middle;
    else high = middle;
  }
  return table[low];
}
