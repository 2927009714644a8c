//! Arrays: an element type, dimensions with lower bounds, and the elements in row-major order.

use crate::error::{Error, Result, state};
use crate::types::{Datum, Type};

/// The most dimensions an array may have (`MAXDIM`).
pub const DIMENSIONS_MAX: usize = 6;

/// The most elements an array may have (`MaxArraySize`).
pub const ELEMENTS_MAX: usize = 134_217_727;

/// One dimension of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dimension {
    /// Number of elements along this dimension.
    pub length: i32,
    /// Subscript of the first one (usually 1).
    pub lower: i32,
}

impl Dimension {
    /// Subscript of the last element.
    pub fn upper(&self) -> i32 {
        self.lower + self.length - 1
    }
}

/// An array value. An empty array has no dimensions.
#[derive(Clone, Debug)]
pub struct Array {
    /// The type of the elements.
    pub element: Type,
    /// Outermost first; the product of the lengths is `values.len()`.
    pub dimensions: Vec<Dimension>,
    /// The elements in row-major order; NULLs allowed.
    pub values: Vec<Datum>,
}

impl Array {
    /// An array without elements.
    pub fn empty(element: Type) -> Array {
        Array {
            element,
            dimensions: Vec::new(),
            values: Vec::new(),
        }
    }

    /// A one-dimensional array that begins at 1.
    pub fn of(element: Type, values: Vec<Datum>) -> Array {
        Array::starting_at(element, 1, values)
    }

    /// A one-dimensional array that begins at `lower` (`int2vector` begins at 0).
    pub fn starting_at(element: Type, lower: i32, values: Vec<Datum>) -> Array {
        if values.is_empty() {
            return Array::empty(element);
        }
        let length = i32::try_from(values.len()).unwrap_or(i32::MAX);
        Array {
            element,
            dimensions: vec![Dimension { length, lower }],
            values,
        }
    }

    /// An array of given dimensions.
    ///
    /// # Errors
    /// 54000 with more than [`DIMENSIONS_MAX`] dimensions; 2202E when lengths and elements differ.
    pub fn shaped(element: Type, dimensions: Vec<Dimension>, values: Vec<Datum>) -> Result<Array> {
        if dimensions.len() > DIMENSIONS_MAX {
            return Err(too_many_dimensions(dimensions.len()));
        }
        let count: usize = dimensions
            .iter()
            .map(|d| d.length.max(0) as usize)
            .product();
        let count = if dimensions.is_empty() { 0 } else { count };
        if count != values.len() {
            return Err(Error::new(
                state::ARRAY_SUBSCRIPT_ERROR,
                "wrong number of array elements",
            ));
        }
        let dimensions = if count == 0 { Vec::new() } else { dimensions };
        Ok(Array {
            element,
            dimensions,
            values,
        })
    }

    /// Stacks arrays of one shape into an array of one dimension more (`ARRAY[[1],[2]]`).
    ///
    /// # Errors
    /// 2202E when the shapes differ, as the ARRAY constructor says it.
    pub fn stack(element: Type, parts: &[Datum]) -> Result<Array> {
        let mut values = Vec::new();
        let mut shape: Option<&[Dimension]> = None;
        for part in parts {
            let part = match part {
                Datum::Array(part) => part,
                Datum::Null => continue,
                _ => return Err(Error::internal("an element of a nested array is no array")),
            };
            match shape {
                None => shape = Some(&part.dimensions),
                Some(shape) if shape == part.dimensions.as_slice() => {}
                Some(_) => {
                    return Err(Error::new(
                        state::ARRAY_SUBSCRIPT_ERROR,
                        "multidimensional arrays must have array expressions with matching \
                         dimensions",
                    ));
                }
            }
            values.extend_from_slice(&part.values);
        }
        let Some(shape) = shape.filter(|shape| !shape.is_empty()) else {
            return Ok(Array::empty(element));
        };
        let mut dimensions = vec![Dimension {
            length: parts.len() as i32,
            lower: 1,
        }];
        dimensions.extend_from_slice(shape);
        Array::shaped(element, dimensions, values)
    }

    /// Number of elements over all dimensions.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The element at a full list of subscripts; NULL when one is out of range or the number of
    /// subscripts is not the number of dimensions.
    pub fn get(&self, subscripts: &[i32]) -> Datum {
        if subscripts.len() != self.dimensions.len() || subscripts.is_empty() {
            return Datum::Null;
        }
        let mut index = 0usize;
        for (subscript, dimension) in subscripts.iter().zip(&self.dimensions) {
            if *subscript < dimension.lower || *subscript > dimension.upper() {
                return Datum::Null;
            }
            index = index * dimension.length as usize + (subscript - dimension.lower) as usize;
        }
        self.values[index].clone()
    }

    /// The slice `[l1:u1][l2:u2]...`; missing bounds are the array's own; missing dimensions are
    /// taken whole. The result is empty when the slice is outside; its lower bounds are 1.
    pub fn slice(&self, bounds: &[(Option<i32>, Option<i32>)]) -> Array {
        if self.is_empty() || bounds.len() > self.dimensions.len() {
            return Array::empty(self.element);
        }
        let mut ranges = Vec::with_capacity(self.dimensions.len());
        for (index, dimension) in self.dimensions.iter().enumerate() {
            let (lower, upper) = bounds.get(index).copied().unwrap_or((None, None));
            let lower = lower.unwrap_or(dimension.lower).max(dimension.lower);
            let upper = upper.unwrap_or(dimension.upper()).min(dimension.upper());
            if lower > upper {
                return Array::empty(self.element);
            }
            ranges.push((lower - dimension.lower, upper - dimension.lower));
        }
        let mut values = Vec::new();
        self.collect(&ranges, 0, 0, &mut values);
        let dimensions = ranges
            .iter()
            .map(|(l, u)| Dimension {
                length: u - l + 1,
                lower: 1,
            })
            .collect();
        Array {
            element: self.element,
            dimensions,
            values,
        }
    }

    fn collect(&self, ranges: &[(i32, i32)], depth: usize, base: usize, out: &mut Vec<Datum>) {
        let (lower, upper) = ranges[depth];
        for index in lower..=upper {
            let at = base * self.dimensions[depth].length as usize + index as usize;
            if depth + 1 == ranges.len() {
                out.push(self.values[at].clone());
            } else {
                self.collect(ranges, depth + 1, at, out);
            }
        }
    }

    /// Elements per entry of the outermost dimension.
    pub fn stride(&self) -> usize {
        self.dimensions
            .iter()
            .skip(1)
            .map(|d| d.length as usize)
            .product()
    }
}

/// 54000 for more than [`DIMENSIONS_MAX`] dimensions.
pub fn too_many_dimensions(count: usize) -> Error {
    Error::new(
        state::PROGRAM_LIMIT_EXCEEDED,
        format!(
            "number of array dimensions ({count}) exceeds the maximum allowed ({DIMENSIONS_MAX})"
        ),
    )
}
